"""Policies that cheat: see :mod:`cheats`."""

from __future__ import annotations

import torch

from minigpt.components.init.base import InitPolicy
from minigpt.components.init.gpt2 import GPT2Init
from minigpt.registry import register
from minigpt.schema import PositiveFloat, options


@register("init", "draws_from_the_clock")
class DrawsFromTheClock(GPT2Init):
    """Draws from torch's own generator, which knows what was drawn before."""

    caught_by = "same_seed"
    cases = ()

    def fill(self, values, slot, generator):
        values.copy_(0.02 * torch.randn(values.shape))


@register("init", "idle_std")
class IdleStd(GPT2Init):
    """Has a standard deviation, and takes its own."""

    caught_by = "options"

    @options
    class Config:
        std: PositiveFloat = 0.02

    def std(self, slot):
        return 0.02


@register("init", "leaves_memory")
class LeavesMemory(InitPolicy):
    """Fills matrices and leaves tables as they are."""

    caught_by = "starts"

    def __init__(self, config):
        pass

    def fill(self, values, slot, generator):
        values.fill_(torch.nan if slot.role == "embedding" else 0.02)
