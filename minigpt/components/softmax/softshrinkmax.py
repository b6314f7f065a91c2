"""Soft-shrinkage attention weights."""

from __future__ import annotations

from torch import Tensor

from minigpt.components.base import BuildContext
from minigpt.components.softmax.elementwise import Elementwise, without_masked
from minigpt.registry import register
from minigpt.schema import PositiveFloat, options


@register("softmax", "softshrinkmax")
class SoftshrinkMax(Elementwise):
    """y = softshrink(s) / divisor: s - l above l, s + l below -l, 0 between, l = threshold; weights may be negative.

    No paper; in use in ReaLLM-Forge, a fork of nanoGPT. Where every score starts between -l and l, as with the usual
    first values, nothing is ever learned: take it with attention.qk_norm=true, which gives scores a size, or with a
    small threshold. A masked score, -inf, would pass through: it gets 0. A constant divisor folds into the value
    projection.
    """

    operations = {"cmp": 2, "add": 1}
    beside = {"cmp": -1}  # torch has both bounds as one operation

    @options
    class Config:
        divisor: PositiveFloat = 64.0
        threshold: PositiveFloat = 0.5

    cases = [
        {"with": {"attention": {"name": "causal", "qk_norm": True}}},
        {"divisor": 4.0, "threshold": 0.01},
    ]

    def __init__(self, config: Config, ctx: BuildContext):
        super().__init__(config.divisor)
        self.threshold = config.threshold

    def function(self, scores: Tensor) -> Tensor:
        visible, _ = without_masked(scores)  # of 0 the function and what flows back are 0
        return visible - visible.clamp(-self.threshold, self.threshold)
