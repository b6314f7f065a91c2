"""Evaluation on tasks while a run trains, and of its last weights: ``evaluate.tasks``, ``evaluate.interval``."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from minigpt.config import EvaluateConfig
from minigpt.errors import UserError
from minigpt.evaluation.config import task_options
from minigpt.evaluation.names import PREFIX, kept
from minigpt.exchange.trained import TrainedModel
from minigpt.screen import say
from minigpt.training.hooks.base import Hook

if TYPE_CHECKING:
    from minigpt.training.trainer import Outcome, Trainer


class TaskScores(Hook):
    """Scores the model every ``interval`` steps and at the end; into the record, and to the hooks that are told of it.

    The training does not notice: weights, random numbers and the time it may take stay as they are. An evaluation that
    fails is said once, and the run goes on without.
    """

    def __init__(self, options: EvaluateConfig):
        self.options = options
        self.at: int | None = None  # the step of the weights that were evaluated last
        self.failed = False

    def stepped(self, run: Trainer) -> None:
        if self.options.interval is not None and run.at.step % self.options.interval == 0:
            with run.settled():
                self.evaluate(run)

    def validated(self, run: Trainer, line: Mapping[str, Any], best: bool) -> None:
        if run.is_over():  # before the last checkpoint, which then knows of it
            self.evaluate(run)

    def end(self, run: Trainer, outcome: Outcome | None) -> None:
        if outcome is not None and outcome.status == "completed":
            with run.settled():
                self.evaluate(run)

    def evaluate(self, run: Trainer) -> None:
        """Score the weights as they are, unless that has been done."""
        if self.failed or self.at == run.at.step:
            return
        from minigpt.evaluation.run import evaluate  # the harness: only where something is evaluated
        from minigpt.evaluation.scoring import InterruptedScoringError

        began = time.monotonic()
        model = TrainedModel(run.model, run.dataset.tokenizer, {"step": run.at.step}, run.folder)
        try:
            found = evaluate(
                model,
                task_options(self.options),
                give_up=lambda: bool(run.interruption.requested),
                progress=False,
            )
        except InterruptedScoringError:
            return
        except UserError as error:
            self.failed = True
            say(f"evaluate: {error}; the run goes on without", lines=True, file=sys.stderr)
            return
        finally:
            run.clock += time.monotonic() - began  # no time of the training's
        self.at = run.at.step
        if self.options.limit is None:  # a score of a part of the questions is a figure of this run, no result
            evaluated = tuple(dict.fromkeys([*run.record.evaluated, *self.options.tasks]))
            run.record = run.record.updated(scores={**run.record.scores, **kept(found.scores)}, evaluated=evaluated)
        standing = {"step": run.at.step, "tokens": run.at.tokens, "seconds": round(run.seconds, 3)}
        for hook in run.hooks.values():
            hook.scored(run, standing | {PREFIX + name: value for name, value in found.scores.items()})

    def state(self) -> dict[str, Any]:
        return {"step": self.at, "tasks": list(self.options.tasks)}

    def restore(self, state: Any) -> None:
        step, tasks = state["step"], list(state["tasks"])
        if step is not None and type(step) is not int:
            raise ValueError(f"evaluate: {str(step)[:80]} is no step")
        if tasks == list(self.options.tasks):  # else those that are asked for now have not been scored there
            self.at = step
