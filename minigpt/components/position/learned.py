"""Learned absolute positions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minigpt.components.base import BuildContext, Initialiser, Span
from minigpt.components.position.base import Position
from minigpt.cost import Cost, Work
from minigpt.registry import register
from minigpt.schema import options


@register("position", "learned")
class LearnedPosition(Position):
    """x_t + P[t].  Radford et al. 2018 (GPT). Learns P: (block_size, d_model)."""

    kind = "embedding"

    @options
    class Config:
        pass

    def __init__(self, config: Config, ctx: BuildContext):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(ctx.block_size, ctx.d_model))

    def init_parameters(self, init: Initialiser) -> None:
        init.matrix(self.weight, "position", fan_in=self.weight.shape[1])

    def embed(self, span: Span) -> Tensor:
        if span.padding is None:
            return self.weight[span.start : span.start + span.length]
        return F.embedding(span.positions, self.weight)

    def cost(self, work: Work) -> Cost:
        n = work.all_tokens * self.weight.shape[1]
        reads = {"native": work.tokens * self.weight.shape[1]}
        return Cost(params=self.own_params(), weights_read=reads, ops={"add": n}, activations=2 * n)
