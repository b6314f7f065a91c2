"""The schedule axis: how the learning rate goes over a run."""

from __future__ import annotations

from minigpt.registry import declare

declare("schedule", default="cosine", scope="run")


class Schedule:
    """Built as ``cls(config)``. A variant says how the rate goes after warm-up, in :meth:`after_warmup`.

    warmup_steps: None is warmup_fraction of the run. The rate rises in a line and is never zero: no step is wasted.
    """

    def __init__(self, warmup_steps: int | None, warmup_fraction: float):
        self.warmup_steps, self.warmup_fraction = warmup_steps, warmup_fraction

    def factor(self, step: float, total: float) -> float:
        """What the base rate is multiplied by.

        step: updates done before this one. total: updates of the whole run, an estimate when the budget is time.
        """
        warmup = self.warmup_fraction * total if self.warmup_steps is None else self.warmup_steps
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return self.after_warmup(min(1.0, (step - warmup) / max(total - warmup, 1.0)))

    def after_warmup(self, progress: float) -> float:
        """The factor at ``progress`` from 0, the end of warm-up, to 1, the end of the run."""
        raise NotImplementedError
