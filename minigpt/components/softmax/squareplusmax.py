"""Squareplus attention weights."""

from __future__ import annotations

import math

from torch import Tensor

from minigpt.components.base import BuildContext
from minigpt.components.softmax.elementwise import Elementwise, without_masked
from minigpt.registry import register
from minigpt.schema import PositiveFloat, options

B = 4 * math.log(2) ** 2
"""With it squareplus(0) = log(2), as softplus has it."""


@register("softmax", "squareplusmax")
class SquareplusMax(Elementwise):
    """y = (s + sqrt(s^2 + b)) / 2 / divisor, b = 4 log(2)^2: softplus without exponentials.  Barron 2021,
    arXiv:2112.11687.

    Below zero the two terms nearly cancel, so torch computes b / 2 / (sqrt(s^2 + b) + |s|), plus s where it is above
    zero, which is the same. Cost is that of the formula. A masked score would become -inf + inf: it gets 0. A constant
    divisor folds into the value projection.
    """

    operations = {"mul": 1, "add": 2, "sqrt": 1}
    beside = {"abs": 1, "add": 1, "recip": 1, "mul": 1, "cmp": 1}

    @options
    class Config:
        divisor: PositiveFloat = 256.0

    cases = [{"divisor": 4.0}]

    def __init__(self, config: Config, ctx: BuildContext):
        super().__init__(config.divisor)

    def function(self, scores: Tensor) -> Tensor:
        s, masked = without_masked(scores)
        return (s.relu() + (B / 2) / ((s.square() + B).sqrt() + s.abs())).masked_fill(masked, 0.0)
