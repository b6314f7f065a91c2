"""GPT-2's initialisation."""

from __future__ import annotations

import math

from minigpt.components.init.base import NormalInit
from minigpt.components.initialiser import Slot
from minigpt.registry import register
from minigpt.schema import PositiveFloat, options


@register("init", "gpt2")
class GPT2Init(NormalInit):
    """sigma = std, and std / sqrt(2 n_layer) of what writes into the residual stream: all are normal.

    Radford et al. 2019, section 2.3.
    """

    @options
    class Config:
        std: PositiveFloat = 0.02

    cases = [{"std": 0.1}]
    changes = {"std": "start"}

    def std(self, slot: Slot) -> float:
        return self.base / math.sqrt(2 * slot.n_layer) if slot.role == "residual_out" else self.base
