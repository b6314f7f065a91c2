"""Training, from a checked configuration to a finished run: the whole way in one function.

Everything that can be wrong with what was asked is found before the first file is written.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from minigpt import registry
from minigpt.config import TrainConfig
from minigpt.cost import Work
from minigpt.data.dataset import Dataset
from minigpt.device import Precision, choose_device, choose_precision, is_out_of_memory, seed_everything, set_up
from minigpt.errors import OutsideError, UserError, shown
from minigpt.evaluation.config import task_options
from minigpt.evaluation.run import check_tasks
from minigpt.files import DiskFullError, Lock, is_disk_full
from minigpt.model import GPT, resolve
from minigpt.screen import say
from minigpt.testing.quick import quick_check
from minigpt.training.budget import Budget
from minigpt.training.companions import content_of, refuse_other_companions, refuse_other_tokenizer
from minigpt.training.display import describe
from minigpt.training.folder import RunFolder
from minigpt.training.history import budgets_of, refuse_spent, told_of_change
from minigpt.training.hooks.base import Hook
from minigpt.training.hooks.display import Display
from minigpt.training.hooks.metrics_file import MetricsFile
from minigpt.training.hooks.task_scores import TaskScores
from minigpt.training.hooks.trackers import Tracking
from minigpt.training.init_from import find_parent
from minigpt.training.interruption import CLOSED, Interruption
from minigpt.training.matching import code_of, told_of_code, unscored, went_on
from minigpt.training.plan import dataset_of, plan_of
from minigpt.training.record import RunRecord, provenance, read_run
from minigpt.training.state import SavedState, UnusableStateError, last_checkpoint, load_state
from minigpt.training.trainer import Trainer, over


def fit(
    run: TrainConfig,
    *,
    overrides: Mapping[str, Any] | None = None,
    hooks: Sequence[Hook] = (),
    lock: Lock | None = None,
) -> RunRecord:
    """Train what ``run`` describes, or go on with the run that ``run.resume`` names, and return its record.

    overrides: what was said of this run, remembered in the record. hooks: what else watches the run, beside
    metrics.jsonl, the tracker and the display. lock: of the folder to go on in, when the caller has it already. A run
    that diverges, runs out of memory or is interrupted returns with that status; an exception is recorded as ``failed``
    and raised again.
    Raises UserError, before anything is written, for a configuration that cannot be trained, a folder that is taken and
    a run that another process trains.
    """
    refuse_many_processes()
    with RunFolder(run, lock) as folder:
        return train(run, folder, overrides or {}, hooks)


def train(run: TrainConfig, folder: RunFolder, overrides: Mapping[str, Any], hooks: Sequence[Hook]) -> RunRecord:
    """Train in a folder that nobody else has."""
    former = folder.former
    device = choose_device(run.device)
    set_up(device, run.training.threads)
    precision = choose_precision(run.training.precision, device, run.model.d_model)
    refuse_unbuildable(run)
    dataset = dataset_of(run)
    plan = plan_of(run, dataset)
    task = registry.build(run.task)
    quick_check(plan.spec)
    checkpoint, state = (None, None) if former is None else find_state(former, dataset)
    if former is not None and state is not None:
        refuse_spent(run, former, state)
        refuse_other_companions(former, task)
    origin: dict[str, Any] = {} if former is None else {"parent": former.parent, "parent_hash": former.parent_hash}
    if run.init_from is not None and checkpoint is None:
        origin = find_parent(run.init_from, plan, dataset)
    if run.evaluate.tasks:
        check_tasks(task_options(run.evaluate))
    is_complete = former is not None and former.status == "completed" and not unscored(former, run)
    if former is not None and is_complete and is_finished(run, state):
        say(
            f"{folder.path} is complete, nothing is left to do. A larger budget goes on with it: training.max_steps=..."
        )
        return former
    code = code_of(run)
    if former is not None and state is not None:
        for told in filter(None, (told_of_change(run, former, state), told_of_code(former.code, code))):
            say(told)

    run = dataclasses.replace(run, name=folder.path.name, resume=None)
    record = new_record(run, folder.path, plan, dataset, precision)
    record = dataclasses.replace(
        record,
        overrides=dict(overrides) if former is None else former.overrides,
        **origin,
        companions=content_of(task),
        code=went_on({} if state is None or former is None else former.code, code),
        budgets=budgets_of(run, former, state),
        scores={} if former is None else former.scores,
        evaluated=() if former is None else former.evaluated,
        steps=0 if state is None else state.standing.step,
    )
    folder.write(run, plan.spec, record)
    try:
        describe(plan)
        seed_everything(run.seed)
        with Interruption() as interruption:
            watching = (MetricsFile(), Tracking(run.logger.name), Display(), *scoring(run), *hooks)
            trainer = Trainer(run, plan.spec, dataset, precision, record, checkpoint, state, watching)
            outcome = trainer.run(interruption)
        return trainer.record.updated(status=outcome.status, reason=outcome.reason, **trainer.results())
    except UnusableStateError:
        if former is not None:
            former.write()
        raise
    except BaseException as error:
        return close_failed(record, error)


def refuse_many_processes() -> None:
    """Raise UserError when torchrun or the like has started several of us: each would train the same run."""
    size = os.environ.get("WORLD_SIZE", "1")
    if size not in ("", "1"):
        raise UserError(
            f"WORLD_SIZE={shown(size)}: a run trains in one process, several would fight over its folder. "
            f"Start it without torchrun; for many runs at once: -m ... workers=<n>"
        )


def refuse_unbuildable(run: TrainConfig) -> None:
    """Raise UserError for parts that do not fit together, before a dataset is prepared for them."""
    GPT.on_meta(resolve(run, run.model.vocab_size or 1))


def find_state(former: RunRecord, dataset: Dataset) -> tuple[Path | None, SavedState | None]:
    """The last checkpoint of a run and the state in it; (None, None) when the run was ended before its first one.

    Raises UserError when the run cannot go on: it diverged, its checkpoint is torn or missing, its dataset has changed.
    """
    if former.status == "diverged":
        raise UserError(
            f"{former.folder}: diverged ({former.reason}) and would again. "
            f"Start a new run with a smaller optimizer.lr or a longer warm-up"
        )
    checkpoint = last_checkpoint(former.folder, former)
    if checkpoint is None:
        return None, None
    state = load_state(checkpoint, dataset.hash)
    refuse_other_tokenizer(checkpoint, dataset)
    return checkpoint, state


def scoring(run: TrainConfig) -> list[Hook]:
    """The hook that evaluates a run on tasks, if there are any."""
    return [TaskScores(run.evaluate)] if run.evaluate.tasks else []


def is_finished(run: TrainConfig, state: SavedState | None) -> bool:
    """Whether the budget, as it is now, leaves nothing to do."""
    if state is None:
        return False
    at = state.standing
    return bool(over(at, run, Budget.of(run.training, run.model.block_size), at.seconds))


def new_record(run: TrainConfig, folder: Path, plan: GPT, dataset: Dataset, precision: Precision) -> RunRecord:
    """What is known of a run before its first step."""
    block_size = plan.spec.block_size
    cost = plan.cost(Work(1, 1, block_size, last_only=True, cache_bits=precision.bits)).total
    return RunRecord(
        name=folder.name,
        status="running",
        config_hash=run.identity,
        seed=run.seed,
        stage=registry.get("task", run.task.name).stage,
        device=str(precision.device),
        precision=precision.name,
        parameters=plan.parameter_count(),
        trainable_parameters=plan.trainable_count(),
        flops_per_token=cost.flops,
        state_bytes_per_token=cost.state_bits / 8 / block_size,
        dataset=dataset.name,
        dataset_hash=dataset.hash,
        tokenizer_hash=dataset.tokenizer.hash,
        folder=folder,
        **provenance(),
    )


def close_failed(record: RunRecord, error: BaseException) -> RunRecord:
    """Record how a run ended that raised. Out of memory is a result and returned; anything else is raised again.

    record: as it was at the start; what has been written since counts.
    """
    with contextlib.suppress(UserError):
        record = read_run(record.folder)
    first = (str(error).splitlines() or [""])[0]
    if is_out_of_memory(error):
        way_out = "Take a smaller training.batch_size, or training.activation_checkpointing=true"
        return record.updated(status="out_of_memory", reason=f"{first or 'no memory left'}. {way_out}")
    if isinstance(error, (KeyboardInterrupt, BrokenPipeError)):
        record.updated(status="interrupted", reason=CLOSED if isinstance(error, BrokenPipeError) else "interrupted")
    elif is_disk_full(error):
        record.close_without_room("interrupted", f"disk full: {first}")
        if not isinstance(error, UserError):
            raise DiskFullError(
                f"{record.folder}: disk full ({first}). Make room, then resume={record.folder}"
            ) from error
    elif isinstance(error, OutsideError):
        record.updated(status="interrupted", reason=first)
    else:
        named = first if isinstance(error, UserError) else f"{type(error).__name__}: {first}"
        record.updated(status="failed", reason=named)
    raise error
