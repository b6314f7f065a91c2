"""Rotary positions whose scores fade with the distance."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from torch import Tensor

from minigpt.components.base import BuildContext
from minigpt.components.call import Call
from minigpt.components.position.base import Place
from minigpt.components.position.rotary import Rotary
from minigpt.errors import UserError
from minigpt.registry import register
from minigpt.schema import PositiveFloat, Range, options

LARGEST = 18
"""Exponent, in base 10, of the largest factor: a query's times a key's stays well within fp32."""


@register("position", "xpos")
class XPosition(Rotary):
    """y = z^(t / scale_base) rope(x) in queries, z^(-t / scale_base) rope(x) in keys, z_i = (2i/d + gamma) /
    (1 + gamma) of pair i.

    What a pair adds to a score fades with the distance, the faster it turns the more.  Sun et al. 2022,
    arXiv:2212.10554. Positions t of the power are counted from the middle of block_size, which no score can tell, so
    that factors stay near 1. theta is that of ``rope``. Nothing is learned.
    """

    tables = 4  # those of queries and those of keys
    key_cos: Tensor
    key_sin: Tensor

    @options
    class Config:
        theta: Annotated[float, Range(ge=1)] = 10000.0
        scale_base: Annotated[float, Range(ge=1)] = 512.0
        gamma: PositiveFloat = 0.4

    cases = [{"theta": 100.0}, {"scale_base": 64.0, "gamma": 0.2}]

    def __init__(self, config: Config, ctx: BuildContext, serves: frozenset[Place], width: int):
        super().__init__(config, ctx, serves, width)
        self.config = config
        if self._exponent(ctx.block_size) > LARGEST:
            raise UserError(
                f"position.scale_base: with {config.scale_base}, the factors at the ends of "
                f"model.block_size={ctx.block_size} are beyond what numbers of 32 bits hold. "
                f"Take a larger one, or a larger position.gamma"
            )
        for table in ("key_cos", "key_sin"):
            self.register_buffer(table, torch.empty(ctx.block_size, self.angles), persistent=False)

    def _exponent(self, block_size: int) -> float:
        """Of the largest factor, in base 10."""
        return block_size / 2 / self.config.scale_base * math.log10(1 + 1 / self.config.gamma)

    def frequencies(self) -> Tensor:
        return self.config.theta ** -(torch.arange(0, self.turned, 2, dtype=torch.float64) / self.turned)

    def init_buffers(self) -> None:
        angle = self.steps()[:, None] * self.frequencies()
        z = torch.arange(0, self.turned, 2, dtype=torch.float64) / self.turned
        z = (z + self.config.gamma) / (1 + self.config.gamma)
        power = (self.steps() - len(angle) // 2)[:, None] / self.config.scale_base
        size = z**power  # (block_size, d/2)
        for sign, cos, sin in ((1, self.cos, self.sin), (-1, self.key_cos, self.key_sin)):
            cos.copy_(angle.cos() * size**sign)
            sin.copy_(angle.sin() * size**sign)

    def rotate(self, x: Tensor, call: Call, which: Literal["query", "key"]) -> Tensor:
        tables = (self.cos, self.sin) if which == "query" else (self.key_cos, self.key_sin)
        return self.turn(x, call, *tables)
