"""Scores of tasks in the record of the run they are of, whoever measured them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from minigpt.errors import UserError
from minigpt.files import Holder, Lock
from minigpt.training.folder import refuse_links
from minigpt.training.record import LOCK, RunRecord, read_run


def run_of(checkpoint: Path) -> Path | None:
    """The run's folder that a checkpoint's lies in, None when it is of no run."""
    for folder in (checkpoint, *checkpoint.parents[:2]):
        if (folder / "run.json").is_file():
            return folder
    return None


def keep_scores(run: Path, scores: Mapping[str, float], tasks: Sequence[str]) -> RunRecord:
    """Put scores into a run's record, beside those of other tasks; a score of the same name is replaced.

    tasks: what was asked for.

    Raises UserError while a process trains the run, for a record that cannot be read, and for links among its files.
    """
    read_run(run)  # before a lock is left where there is no run
    refuse_links(run)

    def busy(holder: Holder) -> None:
        raise UserError(
            f"{run}: is being trained by {holder}, so its record is not written. Wait for it, or give record=false"
        )

    with Lock(run / LOCK, busy, patience=0.3):
        record = read_run(run)
        evaluated = tuple(dict.fromkeys([*record.evaluated, *tasks]))
        return record.updated(scores={**record.scores, **scores}, evaluated=evaluated)
