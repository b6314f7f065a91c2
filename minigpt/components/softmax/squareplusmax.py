"""Squareplus attention weights."""

from __future__ import annotations

import math

import torch
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

    A masked score would become -inf + inf: it gets 0. Far below zero the two terms nearly cancel, so narrow formats are
    left for fp32. A constant divisor, and the 2, fold into the value projection.
    """

    operations = {"mul": 1, "add": 2, "sqrt": 1}
    beside = {"mul": 1}

    @options
    class Config:
        divisor: PositiveFloat = 256.0

    cases = [{"divisor": 4.0}]

    def __init__(self, config: Config, ctx: BuildContext):
        super().__init__(config.divisor)

    def function(self, scores: Tensor) -> Tensor:
        s, masked = without_masked(scores.to(torch.promote_types(scores.dtype, torch.float32)))
        return ((s + (s.square() + B).sqrt()) / 2).masked_fill(masked, 0.0)
