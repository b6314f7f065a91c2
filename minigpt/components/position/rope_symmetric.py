"""Rotary positions with one angle for all pairs."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from torch import Tensor

from minigpt.components.base import BuildContext
from minigpt.components.position.base import Place
from minigpt.components.position.rotary import Rotary
from minigpt.registry import register
from minigpt.schema import Limit, Range, options


@register("position", "rope_symmetric")
class SymmetricRotaryPosition(Rotary):
    """(y_i, y_j) = (x_i cos a - x_j sin a, x_j cos a + x_i sin a), a = 2 pi t / period for every pair i, j = i + d/2 of
    a head.

    Rotary positions (Su et al. 2021, arXiv:2104.09864) with one set of angles: hardware looks up one sine and one
    cosine per token, and every pair is alike. Distances that differ by a period are the same. Nothing is learned.
    """

    @options
    class Config:
        period: Annotated[int, Range(ge=2), Limit(2**31 - 1)] = 512

    cases = [{"period": 24}]

    def __init__(self, config: Config, ctx: BuildContext, serves: frozenset[Place], width: int):
        super().__init__(config, ctx, serves, width, angles=1)
        self.period = config.period

    def frequencies(self) -> Tensor:
        return torch.tensor([2 * math.pi / self.period], dtype=torch.float64)
