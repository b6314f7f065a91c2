"""Initialisation by the depth of each layer."""

from __future__ import annotations

import math

from minigpt.components.init.base import NormalInit
from minigpt.components.initialiser import Slot
from minigpt.registry import register
from minigpt.schema import PositiveFloat, options


@register("init", "depth_scaled")
class DepthScaledInit(NormalInit):
    """sigma = std, and std / sqrt(2 (l + 1)) of what writes into the residual stream in layer l = 0, 1, ...: all are
    normal.

    Zhang, Titov & Sennrich 2019, arXiv:1908.11365: the later a layer, the less it adds at first to a stream that has
    grown by then; ``gpt2`` scales all layers alike.
    """

    @options
    class Config:
        std: PositiveFloat = 0.02

    cases = [{"std": 0.1}]
    changes = {"std": "start"}

    def std(self, slot: Slot) -> float:
        if slot.role != "residual_out" or slot.layer is None:
            return self.base
        return self.base / math.sqrt(2 * (slot.layer + 1))
