"""How long a run goes on, and how far along it is."""

from __future__ import annotations

import math
from dataclasses import dataclass

from minigpt.config import TrainingConfig


@dataclass(frozen=True)
class Budget:
    """A run ends at the first of these limits it reaches. tokens_per_step: of one optimizer step."""

    steps: int | None
    tokens: int | None
    seconds: float | None
    tokens_per_step: int

    @classmethod
    def of(cls, training: TrainingConfig, block_size: int) -> Budget:
        tokens_per_step = training.batch_size * training.gradient_accumulation * block_size
        return cls(training.max_steps, training.max_tokens, training.max_seconds, tokens_per_step)

    def fraction(self, step: int, seconds: float) -> float:
        """Share of the budget spent after ``step`` steps and ``seconds``: that of the nearest limit. 1 ends the run."""
        limit = self.step_limit()
        spent = 0.0 if limit is None else step / limit
        return min(1.0, max(spent, 0.0 if self.seconds is None else seconds / self.seconds))

    def total_steps(self, step: int, seconds: float) -> float:
        """Steps the whole run will have: exact where steps or tokens limit it, estimated where time does."""
        limit = self.step_limit()
        fraction = self.fraction(step, seconds)
        if limit is not None and fraction <= step / limit:
            return limit
        return max(step, 1) / max(fraction, 1e-9)

    def step_limit(self) -> int | None:
        """Steps of the whole run; None where only time limits it."""
        by_tokens = None if self.tokens is None else math.ceil(self.tokens / self.tokens_per_step)
        limits = [limit for limit in (self.steps, by_tokens) if limit is not None]
        return min(limits) if limits else None
