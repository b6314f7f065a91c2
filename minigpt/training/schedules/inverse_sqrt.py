"""Warm-up, then one over the square root of the step."""

from __future__ import annotations

import math

from minigpt.registry import register
from minigpt.schema import Fraction, NonNegativeInt, PositiveFloat, options
from minigpt.training.schedules.base import Schedule


@register("schedule", "inverse_sqrt")
class InverseSqrt(Schedule):
    """rate(s) = lr sqrt(t / (t + s)), s the steps since warm-up.  Vaswani et al. 2017, arXiv:1706.03762, whose t is the
    warm-up.

    Knows nothing of the run's end, so a run can be prolonged from any point. timescale: t in steps, None is warm-up +
    1. warmup_steps: None is warmup_fraction of the run.
    """

    @options
    class Config:
        warmup_steps: NonNegativeInt | None = None
        warmup_fraction: Fraction = 0.05
        timescale: PositiveFloat | None = None

    cases = [{"warmup_steps": 3}, {"warmup_fraction": 0.5}, {"timescale": 50.0}]

    def __init__(self, config: Config):
        super().__init__(config.warmup_steps, config.warmup_fraction)
        self.timescale = config.timescale

    def factor(self, step: float, total: float) -> float:
        warmup = self.warmup(total)
        if step < warmup:
            return self.rising(step, warmup)
        timescale = warmup + 1 if self.timescale is None else self.timescale
        return math.sqrt(timescale / (timescale + step - warmup))
