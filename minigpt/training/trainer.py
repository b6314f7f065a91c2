"""The loop: steps, log lines, validations, checkpoints, and the one place that decides when it is over."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Literal

import torch

from minigpt import registry
from minigpt.components.base import Part
from minigpt.config import TrainConfig
from minigpt.data.batch import Batch
from minigpt.data.dataset import Dataset
from minigpt.device import Precision, is_out_of_memory, peak_memory, random_state, set_random_state
from minigpt.model import GPT, ModelSpec
from minigpt.model.checkpoint import load_weights, save_checkpoint
from minigpt.training.budget import Budget
from minigpt.training.companions import Frozen
from minigpt.training.curvature import gauss_newton
from minigpt.training.evaluate import Validation, validate
from minigpt.training.figures import Window, named
from minigpt.training.hooks.base import Hook, by_name
from minigpt.training.init_from import started
from minigpt.training.interruption import Interruption
from minigpt.training.record import RunRecord
from minigpt.training.state import STATE, SavedState, Standing, UnusableStateError
from minigpt.training.tasks.base import Task


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How the loop ended. reason: in words, where the status alone does not say it."""

    status: Literal["completed", "diverged", "interrupted"]
    reason: str = ""


class Trainer:
    """One run in memory: the model, what moves it, and where it stands. ``run`` takes it to its end.

    checkpoint, state: where to go on from; None starts at step 0. hooks: told of everything, in this order.
    """

    def __init__(
        self,
        config: TrainConfig,
        spec: ModelSpec,
        dataset: Dataset,
        precision: Precision,
        record: RunRecord,
        checkpoint: Path | None = None,
        state: SavedState | None = None,
        hooks: Sequence[Hook] = (),
    ):
        self.config, self.options = config, config.training
        self.dataset, self.precision, self.device = dataset, precision, precision.device
        self.record, self.folder = record, record.folder
        self.budget = Budget.of(config.training, spec.block_size)
        self.block_size = spec.block_size
        self.highest_loss = config.training.diverged_above * math.log(spec.vocab_size)

        if checkpoint is None and record.parent is not None:
            self.model = started(spec, self.device, record.parent).train()
        else:
            self.model = GPT.create(spec, self.device, initialise=checkpoint is None).train()
        self.model.checkpoint_activations = config.training.activation_checkpointing
        self.forward = torch.compile(self.model) if config.training.compile else self.model
        parameters = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        self.parameters = list(parameters.values())
        self.optimizer = registry.build(config.optimizer, parameters, self.model.roles())
        self.optimizer.scale_rates(parameters, self.model.rates())
        self.schedule = registry.build(config.schedule)
        parts = [part for part in self.model.modules() if isinstance(part, Part)]
        self.counting = [part for part in parts if type(part).updated is not Part.updated]
        self.task: Task = registry.build(config.task)
        self.task.models = {
            name: Frozen(path, precision, config.plugins) for name, path in self.task.checkpoints.items()
        }
        self.model.return_also(self.task.needs)
        self.scaler = precision.scaler()

        self.hooks = by_name(hooks)
        self.at = Standing()
        if checkpoint is not None and state is not None:
            self._restore(checkpoint, state)
        self.window = Window(self.device, self.at.window)
        self.grad_norm: torch.Tensor | None = None
        self.optimizer.train()
        self._settled = False
        self.outcome: Outcome | None = None
        self.stopped = ""  # why a hook wants the run to end
        self.unsaved = False  # whether anything has happened since the last checkpoint
        self.clock = time.monotonic()

    def run(self, interruption: Interruption) -> Outcome:
        """Train until the budget is spent, patience is lost, the loss diverges, or somebody interrupts."""
        self.interruption, self.outcome = interruption, None
        with contextlib.ExitStack() as ends:
            for hook in self.hooks.values():
                ends.callback(lambda hook: hook.end(self, self.outcome), hook)
                hook.begin(self)
            self.outcome = self.loop()
        return self.outcome

    def stop(self, reason: str) -> None:
        """Complete the run early, after a last validation: for hooks."""
        self.stopped = reason

    def loop(self) -> Outcome:
        """The way to the end: validate and save when it is time, stop when it is over, otherwise take a step."""
        interruption, interval = self.interruption, self.options.eval_interval
        save_interval = self.options.checkpoint_interval or interval
        while True:
            end = self.is_over()
            due = self.at.step > 0 and (end or self.at.step % interval == 0) and self.at.evaluated_at != self.at.step
            if due and not interruption.requested:
                if diverged := self.log() or self.evaluate():
                    return Outcome("diverged", diverged)
                end = end or self.is_over()  # it may have been one validation too many without an improvement
            if self.unsaved and (end or interruption.requested or self.at.step % save_interval == 0):
                self.save("last")
            if interruption.requested:
                return Outcome("interrupted", f"{interruption.requested} at step {self.at.step}")
            if end:
                return Outcome("completed", end if end != "budget" else "")
            self.step()
            if self.at.step % self.options.log_interval == 0 and (diverged := self.log()):
                return Outcome("diverged", diverged)

    def is_over(self) -> str:
        """Why there is nothing more to do, or nothing."""
        return self.stopped or over(self.at, self.config, self.budget, self.seconds)

    def step(self) -> None:
        """One update of the parameters, from ``gradient_accumulation`` micro-batches."""
        began = time.monotonic()
        spent = self.seconds
        total = self.budget.total_steps(self.at.step, spent)
        self.optimizer.set_lr(self.schedule.factor(self.at.step, total))
        if self.optimizer.curvature:
            self.optimizer.curve(self.curvature())
        for part in range(self.options.gradient_accumulation):
            self.backward(self.at.step * self.options.gradient_accumulation + part)
        if self.scaler.is_enabled():
            self.optimizer.unscale(self.scaler)
        if self.options.clip_norm is not None:
            self.grad_norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.options.clip_norm, foreach=True)
        elif (self.at.step + 1) % self.options.log_interval == 0:
            self.grad_norm = torch.nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None])
        self.optimizer.step(self.scaler)
        self.scaler.update()
        for counting in self.counting:
            counting.updated()
        self.optimizer.zero_grad()
        self.unsaved = True
        self.at.step += 1
        self.at.window_steps += 1
        self._count_training(time.monotonic() - began)
        for hook in self.hooks.values():
            hook.stepped(self)

    def drawn(self, micro_batch: int) -> Batch:
        """A micro-batch on the device."""
        sizes = (self.options.batch_size, self.block_size, self.config.seed)
        return self.task.draw(self.dataset, micro_batch, *sizes).to(self.device)

    def curvature(self) -> list[torch.Tensor]:
        """Of the loss along every parameter, from the first micro-batch of the step."""
        tokens = self.drawn(self.at.step * self.options.gradient_accumulation).inputs
        return gauss_newton(self.forward, tokens, self.parameters, self.precision, self.scaler)

    def backward(self, micro_batch: int) -> torch.Tensor:
        """Add one micro-batch's share to the gradients, and what it measured to the window.

        Returns the task's loss, still on the device: without the auxiliary losses that parts of the model recorded, so
        that models with and without them compare.
        """
        batch = self.drawn(micro_batch)
        with self.precision.autocast():
            output = self.forward(batch.inputs)
        learned = self.task(output, batch, self.at.step)
        extra = (output.weights[name] * loss for name, loss in output.losses.items())
        loss = sum(extra, start=learned.loss)
        self.scaler.scale(loss / self.options.gradient_accumulation).backward()
        figures = named(learned.figures, output.losses, output.metrics)
        self.window.add({"train_loss": learned.loss} | figures)
        self.at.tokens += batch.tokens
        self.at.window_tokens += batch.tokens
        return learned.loss.detach()

    def log(self) -> str:
        """Write a log line for the steps since the last one, if any; returns why the run has diverged, or nothing."""
        if not self.at.window_steps:
            return ""
        began = time.monotonic()
        figures = self.window.means()  # the wait for the device, once per line
        loss = figures.pop("train_loss")
        self._count_training(time.monotonic() - began)
        pace = self.at.window_tokens / self.at.window_seconds
        line = {
            "step": self.at.step,
            "tokens": self.at.tokens,
            "seconds": round(self.seconds, 3),
            "train_loss": loss,
            "lr": self.optimizer.lr,
            "grad_norm": None if self.grad_norm is None else float(self.grad_norm),
            "tokens_per_second": round(pace, 1),
        } | figures
        self.at.train_loss, self.at.figures, self.grad_norm = loss, figures, None
        self.at.window_steps, self.at.window_tokens, self.at.window_seconds = 0, 0, 0.0
        self.window.clear()
        for hook in self.hooks.values():
            hook.logged(self, line)
        return self._diverged("training", loss)

    def evaluate(self) -> str:
        """Validate, remember, keep the best; returns why the run has diverged, or nothing. Can be interrupted."""
        give_up = lambda: bool(self.interruption.requested)  # noqa: E731
        sizes = (self.options.batch_size, self.block_size)
        with self.settled():
            found = validate(self.model, self.dataset, *sizes, self.precision, give_up)
            others = None if found is None else self._validated_others(found, give_up)
            if found is None or others is None:
                return ""
            self.at.val_figures = others
            line = {
                "step": self.at.step,
                "tokens": self.at.tokens,
                "seconds": round(self.seconds, 3),
                "val_loss": found.loss,
                "bits_per_byte": found.bits_per_byte,
            } | others
            diverged = self._diverged("validation", found.loss)
            best = not diverged and self._remember(found)
            for hook in self.hooks.values():
                hook.validated(self, line, best)
            if best:
                self.save("best")
        return diverged

    def _validated_others(self, main: Validation, give_up: Callable[[], bool]) -> dict[str, float] | None:
        """Of a run on several datasets, the loss on each, and their mean, in which all count the same whatever the mix:
        runs with other weights compare. Nothing for a run on one; None when it was given up."""
        losses = {self.dataset.name: main.loss}
        for name, other in self.dataset.others.items():
            found = validate(self.model, other, self.options.batch_size, self.block_size, self.precision, give_up)
            if found is None:
                return None
            losses[name] = found.loss
        if len(losses) == 1:
            return {}
        return {f"val_loss.{name}": loss for name, loss in losses.items()} | {"val_loss_mean": fmean(losses.values())}

    def _remember(self, found: Validation) -> bool:
        """Take a validation into the standing; returns whether it is the best so far."""
        at, best = self.at, found.loss < self.at.best_val_loss
        at.evaluated_at, at.val_loss, at.bits_per_byte = at.step, found.loss, found.bits_per_byte
        if best:
            at.best_val_loss, at.best_step = found.loss, at.step
        if found.loss < at.patience_loss - self.options.min_delta:
            at.patience_loss, at.without_improvement = found.loss, 0
        else:
            at.without_improvement += 1
        self.unsaved = True
        return best

    def save(self, name: Literal["last", "best"]) -> None:
        """Replace a checkpoint. ``last`` holds all it takes to go on; ``best`` is for using the model."""
        meta = {"step": self.at.step, "tokens": self.at.tokens, "val_loss": self.at.val_loss, "run": self.folder.name}
        with self.settled():
            save_checkpoint(
                self.folder / "checkpoint" / name,
                self.model,
                tokenizer=self.dataset.tokenizer.to_json(),
                meta=meta,
                plugins=self.config.plugins,
                extra={STATE: self.state().write} if name == "last" else {},
            )
            if name == "last":
                self.record, self.unsaved = self.record.updated(**self.results()), False
            for hook in self.hooks.values():
                hook.saved(self, name)

    def state(self) -> SavedState:
        """All it takes to go on from here exactly."""
        self.at.window = self.window.stored()
        return SavedState(
            dataclasses.replace(self.at, seconds=self.seconds),
            self.optimizer.state_dict(),
            self.scaler.state_dict(),
            random_state(self.device),
            self.dataset.hash,
            {name: kept for name, hook in self.hooks.items() if (kept := hook.state()) is not None},
        )

    def results(self) -> dict:
        """Where the run stands, as fields of its record."""
        at = self.at
        return {
            "val_loss": at.val_loss,
            "bits_per_byte": at.bits_per_byte,
            "best_val_loss": at.best_val_loss if at.best_step is not None else None,
            "best_step": at.best_step,
            "train_loss": at.train_loss if at.train_loss is not None and math.isfinite(at.train_loss) else None,
            "figures": {
                n: value for n, value in (*at.figures.items(), *at.val_figures.items()) if math.isfinite(value)
            },
            "steps": at.step,
            "tokens_seen": at.tokens,
            "wall_seconds": round(self.seconds, 3),
            "tokens_per_second": round(at.tokens / at.training_seconds, 1) if at.training_seconds else None,
            "peak_memory_bytes": peak_memory(self.device),
        }

    @contextlib.contextmanager
    def settled(self) -> Iterator[None]:
        """With the weights as they are meant to be used: some optimizers train others. May be entered once more."""
        outermost, self._settled = not self._settled, True
        if outermost:
            self.optimizer.eval()
        try:
            yield
        finally:
            if outermost:
                self.optimizer.train()
                self._settled = False

    @property
    def fraction(self) -> float:
        """Of the budget, spent by now."""
        return self.budget.fraction(self.at.step, self.seconds)

    @property
    def seconds(self) -> float:
        """Of the run so far, all its sessions together."""
        return self.at.seconds + time.monotonic() - self.clock

    def _count_training(self, seconds: float) -> None:
        self.at.training_seconds += seconds
        self.at.window_seconds += seconds

    def _diverged(self, what: str, loss: float) -> str:
        if not math.isfinite(loss):
            return f"{what} loss is {loss} at step {self.at.step}"
        if loss > self.highest_loss and (self.task.in_nats or what == "validation"):
            limit = (
                f"{self.highest_loss:.2f}, training.diverged_above={self.options.diverged_above:g} times ln(vocabulary)"
            )
            return f"{what} loss is {loss:.2f} at step {self.at.step}, above {limit}"
        return ""

    def _restore(self, checkpoint: Path, state: SavedState) -> None:
        load_weights(self.model, checkpoint)
        try:
            if other := self.optimizer.mismatch(state.optimizer):
                raise ValueError(other)
            self.optimizer.load_state_dict(state.optimizer)
            self.scaler.load_state_dict(dict(state.scaler))
            self.at = dataclasses.replace(state.standing)
            set_random_state(state.random, self.device)
            for name, hook in self.hooks.items():
                if name in state.hooks:
                    hook.restore(state.hooks[name])
        except (ValueError, TypeError, LookupError, AttributeError, RuntimeError) as error:
            if is_out_of_memory(error):
                raise
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise UnusableStateError(
                f"{checkpoint / STATE}: does not fit this run: {first}. Start a new run"
            ) from error


def over(at: Standing, config: TrainConfig, budget: Budget, seconds: float) -> str:
    """Why a run that stands there has nothing more to do: the words of its record, or nothing."""
    if budget.fraction(at.step, seconds) >= 1:
        return "budget"
    patience = config.training.patience
    if patience is not None and at.without_improvement >= patience:
        return f"stopped early: no validation since step {at.best_step} was better by {config.training.min_delta:g}"
    return ""
