"""Sinusoidal absolute positions."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from minigpt.components.base import BuildContext
from minigpt.components.call import Call
from minigpt.components.position.base import Place, Position
from minigpt.cost import Cost, Work
from minigpt.registry import register
from minigpt.schema import Range, options


@register("position", "sinusoidal")
class SinusoidalPosition(Position):
    """y_t = x_t + P[t], P[t, 2i] = sin(t theta^(-2i/width)), P[t, 2i+1] = cos of the same.  Vaswani et al. 2017,
    arXiv:1706.03762.

    Nothing is learned. Entries of P are of size 1: ``embedding.scaled=true`` makes those of the token table so, as in
    the paper. The table is kept in fp32 for block_size positions.
    """

    places = frozenset({"embedding"})
    table: Tensor

    @options
    class Config:
        theta: Annotated[float, Range(ge=1)] = 10000.0

    cases = [{"theta": 100.0}]

    def __init__(self, config: Config, ctx: BuildContext, serves: frozenset[Place], width: int):
        super().__init__(config, ctx, serves, width)
        self.theta = config.theta
        self.register_buffer("table", torch.empty(ctx.block_size, width), persistent=False)

    def init_buffers(self) -> None:
        frequency = self.theta ** -(torch.arange(0, self.width, 2, dtype=torch.float64) / self.width)
        angle = torch.arange(len(self.table), dtype=torch.float64)[:, None] * frequency  # (block_size, width/2)
        self.table[:, 0::2] = angle.sin().to(self.table)
        self.table[:, 1::2] = angle.cos()[:, : self.width // 2].to(self.table)  # an odd width ends with a sine

    def embed(self, call: Call) -> Tensor:
        span = call.span
        if span.padding is None:
            return self.table[span.start : span.start + span.length]
        return self.table[span.positions]

    def hardware_form(self, work: Work) -> dict[str, int]:
        """Torch keeps its table as a tensor."""
        return {"lut": -work.tokens * self.width}

    def cost(self, work: Work) -> Cost:
        n = work.all_tokens * self.width
        return Cost(ops={"add": n, "lut": work.tokens * self.width}, activations=2 * n)
