"""Sigmoid-weighted softmax."""

from __future__ import annotations

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from minigpt.components.base import BuildContext
from minigpt.components.softmax.base import Softmax
from minigpt.cost import Cost, Work
from minigpt.registry import register
from minigpt.schema import Range, options


@register("softmax", "sigsoftmax")
class SigSoftmax(Softmax):
    """y = base^s sigmoid(s) / sum(base^s sigmoid(s)).  Kanai et al. 2018, arXiv:1805.10829.

    Torch takes the softmax of log(base) s + log sigmoid(s): the maximum is subtracted from the logarithm of what is
    summed, so that neither factor overflows or vanishes for a whole row.
    """

    normalised = True
    reductions = 2

    @options
    class Config:
        base: Annotated[float, Range(gt=1, le=1e4)] = math.e

    cases = [{"base": 2.0}]

    def __init__(self, config: Config, ctx: BuildContext):
        super().__init__()
        self.log_base = math.log(config.base)

    def forward(self, scores: Tensor) -> Tensor:
        exponent = scores if self.log_base == 1 else scores * self.log_base
        return torch.softmax(exponent + F.logsigmoid(scores), dim=-1)

    def hardware_form(self, work: Work) -> dict[str, int]:
        """Torch takes a logarithm of the sigmoid and one exponential of the sum. In hardware the two factors are
        multiplied; the base is a constant of its exponential, the row's sum one reciprocal."""
        n = work.elements
        scaled = self.log_base != 1
        beside = {"max": n, "neg": n, "abs": n, "log": n, "add": n}
        return beside | {"mul": (scaled - 1) * n, "recip": -work.rows - n}

    def cost(self, work: Work) -> Cost:
        n = work.elements
        ops = {"max": n, "sub": n, "exp": 2 * n, "add": 2 * n, "recip": n + work.rows, "mul": 2 * n}
        return Cost(ops=ops, activations=2 * n, reductions=2, passes=3)
