"""Warm-up, then the same share less every step."""

from __future__ import annotations

from typing import Annotated

from minigpt.registry import register
from minigpt.schema import Fraction, NonNegativeInt, Range, options
from minigpt.training.schedules.base import Schedule


@register("schedule", "exponential")
class Exponential(Schedule):
    """rate(p) = lr m^p, p from 0 to 1 after warm-up: every step multiplies the rate by m^(1 / steps after warm-up).

    torch.optim.lr_scheduler.ExponentialLR with that gamma. warmup_steps: None is warmup_fraction of the run.
    min_factor: m, the last rate as a share of lr.
    """

    @options
    class Config:
        warmup_steps: NonNegativeInt | None = None
        warmup_fraction: Fraction = 0.05
        min_factor: Annotated[float, Range(gt=0, le=1)] = 0.1

    cases = [{"warmup_steps": 3}, {"warmup_fraction": 0.5}, {"min_factor": 0.5}]

    def __init__(self, config: Config):
        super().__init__(config.warmup_steps, config.warmup_fraction)
        self.min_factor = config.min_factor

    def after_warmup(self, progress: float) -> float:
        return self.min_factor**progress
