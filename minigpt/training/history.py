"""The budgets a run has had: what a new one means for a run that goes on, and what its record keeps of them."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime

from minigpt import registry
from minigpt.config import TrainConfig
from minigpt.errors import UserError
from minigpt.training.budget import Budget
from minigpt.training.record import BudgetChange, RunRecord
from minigpt.training.state import SavedState

LIMITS = ("max_steps", "max_tokens", "max_seconds")


def budgets_of(run: TrainConfig, former: RunRecord | None, state: SavedState | None) -> tuple[BudgetChange, ...]:
    """Every budget under which a step was trained or will be, the present one last."""
    step = 0 if state is None else state.standing.step
    time = datetime.now(UTC).isoformat(timespec="seconds")
    now = BudgetChange(from_step=step, at=time, **{key: getattr(run.training, key) for key in LIMITS})
    before = () if former is None else tuple(each for each in former.budgets if each.from_step < step)
    return before if before and before[-1].limits() == now.limits() else (*before, now)


def refuse_spent(run: TrainConfig, former: RunRecord, state: SavedState) -> None:
    """Raise UserError for a new budget that is smaller than what the run has used up."""
    at = state.standing
    for key, done in zip(LIMITS, (at.step, at.tokens, at.seconds), strict=True):
        limit = getattr(run.training, key)
        if former.budgets and limit != getattr(former.budgets[-1], key) and limit is not None and done > limit:
            raise UserError(
                f"training.{key}: {limit:g} is less than the {done:g} this run has behind it. "
                f"Give a larger one to go on, or start a new run with this one"
            )


def told_of_change(run: TrainConfig, former: RunRecord, state: SavedState) -> str:
    """What a new budget does to the rate of a run that goes on, in one line; nothing when the budget is the old one."""
    if not former.budgets or former.budgets[-1].limits() == tuple(getattr(run.training, key) for key in LIMITS):
        return ""
    at, last = state.standing, former.budgets[-1]
    schedule = registry.build(run.schedule)
    base = getattr(run.optimizer.options, "lr", 1.0)  # an optimizer without one: shares of its rate
    rates, lengths = [], []
    for training in (dataclasses.replace(run.training, **{key: getattr(last, key) for key in LIMITS}), run.training):
        total = Budget.of(training, run.model.block_size).total_steps(at.step, at.seconds)
        lengths.append(f"{total:.0f}")
        rates.append(f"{base * schedule.factor(at.step, total):.3g}")
    return (
        f"another budget from step {at.step} on: the schedule ends at step {lengths[1]}, not {lengths[0]}; "
        f"the rate goes from {rates[0]} to {rates[1]}. This run stands for itself, no sweep takes it as a trial"
    )
