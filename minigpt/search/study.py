"""The study: which points have a result, and how the others get one. Sweeps and searches go through ``Study.run``.

A study is the folder ``out/<study>``: ``study.db``, ``results.yaml`` and one folder per trial, with its run record. The
records are the truth: a trial is done when its record says so, whatever became of the process that watched it. To train
a trial again, delete its folder. A record that cannot be read stops nothing: its folder is set aside and named.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from minigpt import config, registry
from minigpt.data.mixing import hash_of
from minigpt.errors import UserError
from minigpt.files import Holder, Lock, explained, is_disk_full
from minigpt.mixture import names_of
from minigpt.screen import say
from minigpt.search.launcher import FinishedJob, Job, Launcher
from minigpt.search.points import Point, for_study, trial_name, unique
from minigpt.search.progress import counted
from minigpt.search.trials import TrialStore
from minigpt.search.worker import only_worker_of
from minigpt.training.matching import outdated, unscored
from minigpt.training.record import FINAL, LOCK, NewerFormatError, RunRecord, read_run

_FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Signals somebody sends to a trial, which may then go on another time. Any other is its own crash."""
_GOES_ON = " When that is mended, the same command goes on"
_SHOWN = 5
_SET_ASIDE = re.compile(r"\.damaged-\d+$")


@dataclass(frozen=True)
class Started:
    """A trial in the hands of a launcher. number: in the database."""

    number: int
    point: Point


class Study:
    """One study folder, open and locked: ``with Study(folder) as study``.

    records: identity -> record, of every trial whose folder is there. outdated: records that are no results any more,
    and why: the code of their variants was edited, or their budget changed on the way.
    Raises UserError when another process has it, or the folder is something else.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.records: dict[str, RunRecord] = {}
        self.outdated: list[tuple[RunRecord, str]] = []
        self._code: dict[str, str] = {}

    def __enter__(self) -> Study:
        if (self.folder / "run.json").is_file():
            raise UserError(f"study: '{self.folder}' is a training run. Choose another name: study=<name>")
        self.folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as ends:
            ends.enter_context(Lock(self.folder / LOCK, self._busy))
            self._read_records()
            self._store = ends.enter_context(closing(TrialStore(self.folder)))
            if self._store.broken is not None:
                aside = self._store.broken.name
                say(f"{self._store.file}: cannot be read; set aside as {aside} and made anew from the records")
            self._close_stale_trials()
            self._ends = ends.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.close()

    def _busy(self, holder: Holder) -> None:
        raise UserError(f"study: '{self.folder}' is being run by {holder}. Wait or stop it")

    def record(self, point: Point) -> RunRecord | None:
        """The record of a point that has ended for good, and has been evaluated on what is asked for now; else None."""
        record = self.records.get(point.identity)
        if record is None or record.status not in FINAL or unscored(record, point.run):
            return None
        return record

    def missing(self, points: Sequence[Point]) -> list[Point]:
        """The points that still have to be trained, or trained on; of equal ones the first."""
        return [point for point in unique(points) if self.record(point) is None]

    def run(
        self,
        points: Sequence[Point],
        launcher: Launcher,
        threads: int,
        finished: Callable[[Point, RunRecord], None],
    ) -> None:
        """Train the missing points, ``threads`` each; ``finished`` is told of each as it ends.

        What goes wrong in a trial stays in its record.
        """
        self._refuse_other_data(points)
        self._adopt()
        if missing := self.missing(points):
            self._store.make_room(point.overrides for point in missing)
        started: dict[Path, Started] = {}

        def jobs() -> Iterator[Job]:
            for point in missing:
                folder = self._prepare(point, threads)
                started[folder] = Started(self._store.start(self.records[point.identity]), point)
                yield Job(folder, threads)

        try:
            with closing(launcher.run(jobs())) as ends:
                for end in ends:
                    trial = started.pop(end.job.folder)
                    finished(trial.point, self._settle(end, trial))
        finally:
            for folder, trial in started.items():  # stopped from outside: the launcher has ended their workers by now
                self._settle(FinishedJob(Job(folder, threads), -signal.SIGINT), trial)

    def _refuse_other_data(self, points: Sequence[Point]) -> None:
        """Raise UserError when a trial that would be taken over, or gone on with, was trained on data that has changed
        since."""
        hashes: dict[tuple[str, ...], str] = {}
        for point in points:
            record, data = self.records.get(point.identity), point.run.data
            if record is None or record.dataset_hash is None:
                continue
            key = (data.name, data.folder, *names_of(data.stages))
            if key not in hashes:
                hashes[key] = hash_of(data)
            now = hashes[key]
            if now != record.dataset_hash:
                raise UserError(
                    f"study: '{record.folder}' was trained on other data (dataset hash {record.dataset_hash[:12]}, "
                    f"'{data.name}' now has {now[:12]}). Prepare the data as it was, or name another: study=<name>"
                )

    def _prepare(self, point: Point, threads: int) -> Path:
        """A trial's folder with what a worker needs: the configuration, and a record that says it is running."""
        known = self.records.get(point.identity)
        folder = self._new_folder(point) if known is None else known.folder
        folder.mkdir(exist_ok=True)
        run = for_study(point, self.folder.name, str(self.folder.parent), folder.name, threads)
        config.save_yaml(run, folder / "config.yaml")
        if known is not None:
            self.records[point.identity] = known.updated(status="running", reason="")
            return folder
        record = RunRecord(
            name=folder.name,
            status="running",
            config_hash=point.identity,
            seed=run.seed,
            overrides=point.overrides,
            folder=folder,
        )
        record.write()
        self.records[point.identity] = record
        return folder

    def _new_folder(self, point: Point) -> Path:
        """A folder that nothing has been trained in."""
        folder, number = self.folder / trial_name(point), 1
        while (folder / "run.json").exists():
            number += 1
            folder = self.folder / f"{trial_name(point)}-{number}"
        return folder

    def _settle(self, end: FinishedJob, trial: Started) -> RunRecord:
        """The record of a trial whose worker has ended, put right where the worker could not, and into the database."""
        record = read_run(end.job.folder)
        if record.status == "running":
            record = _died(record, end.returncode)
        self.records[trial.point.identity] = record
        self._store.finish(trial.number, record)
        return record

    def _close_stale_trials(self) -> None:
        """Trials that a killed sweep left running in the database: close them with what their records say by now."""
        for number, identity in self._store.running():
            record = self.records.get(identity)
            if record is None:  # its folder is gone
                record = RunRecord(name="", status="interrupted", config_hash=identity, seed=0)
            self._store.finish(number, record)

    def _adopt(self) -> None:
        """Enter results that are in the folder but not in the database, such as when the database was lost."""
        settled = self._store.settled()
        lacking = [r for r in self.records.values() if r.status in FINAL and r.config_hash not in settled]
        if lacking:
            self._store.make_room(record.overrides for record in lacking)
            self._store.adopt(list(counted(lacking, len(lacking), "results entered into the database")))

    def _read_records(self) -> None:
        """The record of every trial; a folder whose record cannot be read is set aside."""
        names = sorted(entry.name for entry in os.scandir(self.folder) if not _SET_ASIDE.search(entry.name))
        for name in counted(names, len(names), "records read"):
            folder = self.folder / name
            if not os.path.exists(f"{self.folder}/{name}/run.json"):
                continue
            try:
                record = _last_word(folder)
            except NewerFormatError:
                raise
            except (UserError, ValueError) as error:
                place = _set_aside(folder)
                what = error if isinstance(error, UserError) else f"{folder / 'run.json'}: not a run record ({error})"
                say(what)
                say(f"  set aside as {place.name}; if it is a point of this study, it is trained anew")
            else:
                if reason := outdated(record, self._code_now(record)):
                    self.outdated.append((record, reason))
                else:
                    self.records[record.config_hash] = record
        self._tell_outdated()

    def _code_now(self, record: RunRecord) -> Mapping[str, str]:
        """The code, as it is now, of at least the variants that a record was made with."""
        for part in record.code:
            if part not in self._code:
                axis, name = part.split("=", 1)
                self._code[part] = registry.code_hash(axis, name) if registry.has(axis, name) else "gone"
        return self._code

    def _tell_outdated(self) -> None:
        for record, reason in self.outdated[:_SHOWN]:
            say(f"{record.folder}: not taken over, {reason}; a point like it is trained anew, in another folder")
        if len(self.outdated) > _SHOWN:
            say(f"  and {len(self.outdated) - _SHOWN:,} more results that are not taken over")


@contextmanager
def outside_errors(folder: Path) -> Iterator[None]:
    """Turn a full or read-only disk into one line. What the study has so far stays whole."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise UserError(f"{folder}: study.db could not be written ({error}).{_GOES_ON}") from None
    except OSError as error:
        if is_disk_full(error) or error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise explained(error, error.filename or folder, way_out=_GOES_ON) from None
        raise


def _set_aside(folder: Path) -> Path:
    """Give a folder the next free name with a suffix that studies leave alone."""
    number = 1
    while (place := folder.with_name(f"{folder.name}.damaged-{number}")).exists():
        number += 1
    return folder.rename(place)


def _last_word(folder: Path) -> RunRecord:
    """The record of a trial nobody watches: a worker that outlived its sweep ends first; what then runs is dead."""
    record = read_run(folder)
    if record.status != "running":
        return record
    with only_worker_of(folder):
        record = read_run(folder)
    if record.status != "running":
        return record
    return record.updated(status="interrupted", reason="its sweep was ended; the same command goes on with it")


def _died(record: RunRecord, returncode: int) -> RunRecord:
    """The record of a worker that ended without a word."""
    if -returncode in _FROM_OUTSIDE:
        name = signal.Signals(-returncode).name
        return record.updated(status="interrupted", reason=f"ended by {name}; the same command goes on with it")
    if returncode < 0:
        return record.updated(status="failed", reason=f"crashed with {signal.Signals(-returncode).name}")
    last = _last_line(record.folder)
    if is_disk_full(Exception(last)):
        return record.updated(status="interrupted", reason=f"disk full: {last}; the same command goes on with it")
    return record.updated(status="failed", reason=f"exit code {returncode}: {last}")


def _last_line(folder: Path) -> str:
    log = folder / "trial.log"
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")[:300]
