"""Blocks that start as the identity."""

from __future__ import annotations

from minigpt.components.init.base import NormalInit
from minigpt.components.initialiser import Slot
from minigpt.registry import register
from minigpt.schema import PositiveFloat, options


@register("init", "zero_out")
class ZeroOutInit(NormalInit):
    """sigma = std of normal matrices, and 0 of what writes into the residual stream and of an untied head.

    Zhang et al. 2019 (Fixup), arXiv:1901.09321; Yang et al. 2022 (muP), arXiv:2203.03466, for the head.
    """

    @options
    class Config:
        std: PositiveFloat = 0.02

    cases = [{"std": 0.1}]
    changes = {"std": "start"}

    def std(self, slot: Slot) -> float:
        return 0.0 if slot.role in ("residual_out", "head") else self.base
