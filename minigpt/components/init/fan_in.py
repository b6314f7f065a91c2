"""Initialisation scaled by fan-in."""

from __future__ import annotations

import math

from minigpt.components.init.base import InitPolicy
from minigpt.components.initialiser import Slot
from minigpt.registry import register
from minigpt.schema import PositiveFloat, options


@register("init", "fan_in")
class FanInInit(InitPolicy):
    """sigma = gain / sqrt(fan_in) of a normal matrix, ``embedding_std`` of a table.  LeCun et al. 1998, Efficient
    BackProp.
    """

    @options
    class Config:
        gain: PositiveFloat = 1.0
        embedding_std: PositiveFloat = 0.02

    cases = [{"gain": 0.5}, {"embedding_std": 0.1}]
    changes = {"gain": "start", "embedding_std": "start"}

    def __init__(self, config: Config):
        self.config = config

    def std(self, slot: Slot) -> float:
        if slot.role in ("embedding", "position"):
            return self.config.embedding_std
        return self.config.gain / math.sqrt(slot.fan_in)
