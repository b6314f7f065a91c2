"""The schedule axis: how the learning rate goes over a run."""

from __future__ import annotations

from minigpt.errors import UserError
from minigpt.registry import declare

declare("schedule", default="cosine", scope="run")

WARMUP_FRACTION = 0.05
"""Of a run, by default: what every variant's Config says."""


class Schedule:
    """Built as ``cls(config)``. A variant says how the rate goes after warm-up, in :meth:`after_warmup`; one that
    counts steps rather than shares of the run, in :meth:`factor`.

    warmup_steps: None is warmup_fraction of the run. The rate rises in a line and is never zero: no step is wasted.
    """

    def __init__(self, warmup_steps: int | None, warmup_fraction: float):
        if warmup_steps is not None and warmup_fraction != WARMUP_FRACTION:
            raise UserError(
                f"schedule.warmup_fraction: {warmup_fraction:g} would do nothing beside warmup_steps={warmup_steps}. "
                f"Give one of them"
            )
        self.warmup_steps, self.warmup_fraction = warmup_steps, warmup_fraction

    def factor(self, step: float, total: float) -> float:
        """What the base rate is multiplied by.

        step: updates done before this one. total: updates of the whole run, an estimate when the budget is time.
        """
        warmup = self.warmup(total)
        if step < warmup:
            return self.rising(step, warmup)
        return self.after_warmup(min(1.0, (step - warmup) / max(total - warmup, 1.0)))

    def warmup(self, total: float) -> float:
        """Steps of the warm-up in a run of ``total``."""
        return self.warmup_fraction * total if self.warmup_steps is None else self.warmup_steps

    @staticmethod
    def rising(step: float, warmup: float) -> float:
        """The factor at a step of the warm-up."""
        return (step + 1) / (warmup + 1)

    def after_warmup(self, progress: float) -> float:
        """The factor at ``progress`` from 0, the end of warm-up, to 1, the end of the run."""
        raise NotImplementedError
