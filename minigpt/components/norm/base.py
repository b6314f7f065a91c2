"""The norm axis: (..., width) -> (..., width)."""

from __future__ import annotations

from torch import Tensor

from minigpt.components.base import Part
from minigpt.registry import declare

declare("norm", default="rmsnorm", scope="block")


class Norm(Part):
    """Built as ``cls(config, ctx, width)``. reductions: row-wide reductions before the first output."""

    reductions: int

    def forward(self, x: Tensor) -> Tensor:
        raise NotImplementedError
