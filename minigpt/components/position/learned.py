"""Learned absolute positions."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minigpt.components.base import BuildContext
from minigpt.components.call import Call
from minigpt.components.initialiser import Initialiser
from minigpt.components.position.base import Place, Position
from minigpt.cost import Cost, Work
from minigpt.registry import register


@register("position", "learned")
class LearnedPosition(Position):
    """y_t = x_t + P[t].  Radford et al. 2018 (GPT). Learns P: (block_size, width)."""

    places = frozenset({"embedding"})

    def __init__(self, config: Any, ctx: BuildContext, serves: frozenset[Place], width: int):
        super().__init__(config, ctx, serves, width)
        self.weight = nn.Parameter(torch.empty(ctx.block_size, width))

    def init_parameters(self, init: Initialiser) -> None:
        init.matrix(self.weight, "position", fan_in=self.width)

    def embed(self, call: Call) -> Tensor:
        span = call.span
        if span.padding is None:
            return self.weight[span.start : span.start + span.length]
        return F.embedding(span.positions, self.weight)

    def cost(self, work: Work) -> Cost:
        n = work.all_tokens * self.width
        reads = {"native": work.tokens * self.width}
        return Cost(params=self.own_params(), weights_read=reads, ops={"add": n}, activations=2 * n)
