"""Warm-up, then a line down."""

from __future__ import annotations

from minigpt.registry import register
from minigpt.schema import Fraction, NonNegativeInt, options
from minigpt.training.schedules.base import Schedule


@register("schedule", "linear")
class Linear(Schedule):
    """rate(p) = lr (1 - (1 - m) p), p from 0 to 1 after warm-up: BERT's.  Devlin et al. 2018, arXiv:1810.04805.

    warmup_steps: None is warmup_fraction of the run. min_factor: m, the last rate as a share of lr.
    """

    @options
    class Config:
        warmup_steps: NonNegativeInt | None = None
        warmup_fraction: Fraction = 0.05
        min_factor: Fraction = 0.0

    cases = [{"warmup_steps": 3}, {"warmup_fraction": 0.5}, {"min_factor": 0.5}]

    def __init__(self, config: Config):
        super().__init__(config.warmup_steps, config.warmup_fraction)
        self.min_factor = config.min_factor

    def after_warmup(self, progress: float) -> float:
        return self.min_factor + (1 - self.min_factor) * (1 - progress)
