"""The plain head."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from minigpt.components.base import BuildContext
from minigpt.components.call import Call
from minigpt.components.embedding.base import Embedding
from minigpt.components.head.base import Head
from minigpt.cost import Cost, Work
from minigpt.registry import register
from minigpt.schema import PositiveFloat, options


@register("head", "linear")
class LinearHead(Head):
    """logits = x W^T, W the embedding's table or, with ``model.tie_embeddings=false``, a matrix of its own.

    softcap c: logits become c tanh(logits / c); Gemma 2, arXiv:2408.00118.
    """

    @options
    class Config:
        softcap: PositiveFloat | None = None

    cases = [{"softcap": 2.0}]

    def __init__(self, config: Config, ctx: BuildContext, embedding: Embedding | None):
        super().__init__(config, ctx, embedding)
        self.softcap, self.vocab_size = config.softcap, ctx.vocab_size

    def forward(self, x: Tensor, call: Call) -> Tensor:
        logits = self.score(x)
        return logits if self.softcap is None else self.softcap * torch.tanh(logits / self.softcap)

    def cost(self, work: Work) -> Cost:
        cost = super().cost(work)
        if self.softcap is None:
            return cost
        n = work.rows * self.vocab_size
        ops = {**cost.ops, "mul": 2 * n, "tanh": n}
        return dataclasses.replace(cost, ops=ops, activations=cost.activations + 6 * n)
