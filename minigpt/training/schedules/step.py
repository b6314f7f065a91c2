"""Warm-up, then a staircase."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

from minigpt.errors import UserError
from minigpt.registry import register
from minigpt.schema import Fraction, NonNegativeInt, Range, options
from minigpt.training.schedules.base import Schedule


@register("schedule", "step")
class Step(Schedule):
    """rate = lr gamma^k from the k-th milestone on: torch.optim.lr_scheduler.MultiStepLR.

    milestones: rising, shares of what follows warm-up. gamma: what the rate is multiplied by at each. warmup_steps:
    None is warmup_fraction of the run.
    """

    @options
    class Config:
        warmup_steps: NonNegativeInt | None = None
        warmup_fraction: Fraction = 0.05
        milestones: list[Annotated[float, Range(gt=0, lt=1)]] = (0.5, 0.75)  # type: ignore[assignment]
        gamma: Annotated[float, Range(gt=0, lt=1)] = 0.1

    cases = [{"warmup_steps": 3}, {"warmup_fraction": 0.5}, {"milestones": [0.3]}, {"gamma": 0.5}]

    def __init__(self, config: Config):
        super().__init__(config.warmup_steps, config.warmup_fraction)
        self.milestones, self.gamma = tuple(config.milestones), config.gamma
        if not self.milestones:
            raise UserError("schedule.milestones: none, so the rate would never fall. Take schedule=constant")
        if any(one >= other for one, other in pairwise(self.milestones)):
            given = ", ".join(f"{each:g}" for each in self.milestones)
            raise UserError(f"schedule.milestones: expected rising ones, such as [0.5, 0.75], got {given}")

    def after_warmup(self, progress: float) -> float:
        return self.gamma ** sum(progress >= milestone for milestone in self.milestones)
