"""Warm-up, a plateau, a decay."""

from __future__ import annotations

from minigpt.errors import UserError
from minigpt.registry import register
from minigpt.schema import Fraction, NonNegativeInt, options
from minigpt.training.schedules.base import Schedule


@register("schedule", "wsd")
class WarmupStableDecay(Schedule):
    """rate(p) = lr, and lr (m + (1 - m) (1 - p) / d) once 1 - p < d, p from 0 to 1 after warm-up: a plateau, then a
    line down.  Hu et al. 2024, arXiv:2404.06395.

    Also called trapezoid. A run can be prolonged from any point of the plateau. warmup_steps: None is warmup_fraction
    of the run. decay_fraction: d, of what follows warm-up. min_factor: m, the last rate as a share of lr.
    """

    @options
    class Config:
        warmup_steps: NonNegativeInt | None = None
        warmup_fraction: Fraction = 0.05
        decay_fraction: Fraction = 0.3
        min_factor: Fraction = 0.0

    cases = [{"warmup_steps": 3}, {"warmup_fraction": 0.5}, {"decay_fraction": 0.5}, {"min_factor": 0.5}]

    def __init__(self, config: Config):
        super().__init__(config.warmup_steps, config.warmup_fraction)
        self.decay_fraction, self.min_factor = config.decay_fraction, config.min_factor
        if not self.decay_fraction and self.min_factor:
            raise UserError(
                f"schedule.min_factor: {self.min_factor:g} would do nothing with decay_fraction=0, which never falls. "
                f"Leave one of them out"
            )

    def after_warmup(self, progress: float) -> float:
        left = 1 - progress
        if left >= self.decay_fraction:
            return 1.0
        return self.min_factor + (1 - self.min_factor) * left / self.decay_fraction
