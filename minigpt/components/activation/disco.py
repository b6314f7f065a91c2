"""The signed square."""

from __future__ import annotations

from torch import Tensor

from minigpt.components.activation.base import Activation
from minigpt.registry import register


@register("activation", "disco")
class Disco(Activation):
    """y = x |x|: odd, continuous in value and slope, and of nothing but one product.

    No paper; in use in ReaLLM-Forge, a fork of nanoGPT.
    """

    operations = {"abs": 1, "mul": 1}

    def forward(self, x: Tensor) -> Tensor:
        return x * x.abs()
