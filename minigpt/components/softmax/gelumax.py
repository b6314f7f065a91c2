"""GELU attention weights."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from minigpt.components.base import BuildContext
from minigpt.components.softmax.elementwise import Elementwise, without_masked
from minigpt.registry import register
from minigpt.schema import PositiveFloat, options


@register("softmax", "gelumax")
class GeluMax(Elementwise):
    """y = gelu(s) / divisor, gelu(s) = s (1 + erf(s / sqrt(2))) / 2; weights may be negative, down to -0.17 / divisor.

    No paper; in use in ReaLLM-Forge, a fork of nanoGPT. A masked score, -inf, would become NaN: it gets 0. A constant
    divisor folds into the value projection.
    """

    operations = {"mul": 3, "erf": 1, "add": 1}

    @options
    class Config:
        divisor: PositiveFloat = 64.0

    cases = [{"divisor": 4.0}]

    def __init__(self, config: Config, ctx: BuildContext):
        super().__init__(config.divisor)

    def function(self, scores: Tensor) -> Tensor:
        visible, _ = without_masked(scores)  # gelu(0) = 0
        return F.gelu(visible)
