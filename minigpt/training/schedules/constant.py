"""Warm-up, then one rate."""

from __future__ import annotations

from minigpt.registry import register
from minigpt.schema import Fraction, NonNegativeInt, options
from minigpt.training.schedules.base import Schedule


@register("schedule", "constant")
class Constant(Schedule):
    """rate = lr from the end of warm-up to the end of the run.  Goyal et al. 2017, arXiv:1706.02677, for the warm-up.

    warmup_steps: None is warmup_fraction of the run.
    """

    @options
    class Config:
        warmup_steps: NonNegativeInt | None = None
        warmup_fraction: Fraction = 0.05

    cases = [{"warmup_steps": 3}, {"warmup_fraction": 0.5}]

    def __init__(self, config: Config):
        super().__init__(config.warmup_steps, config.warmup_fraction)

    def after_warmup(self, progress: float) -> float:
        return 1.0
