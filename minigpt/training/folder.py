"""The folder of a run: made or reopened by one process, which has it to itself until the run ends.

It holds ``config.yaml`` (the resolved configuration), ``model.json`` (the resolved model), ``metrics.jsonl``,
``run.json`` (the record) and ``checkpoint/``. A folder to go on from may be a stranger's: nothing in it is followed.
"""

from __future__ import annotations

import shutil
import stat
import time
from pathlib import Path

from minigpt import config
from minigpt.config import TrainConfig
from minigpt.errors import UserError
from minigpt.files import Holder, Lock, clear_temporary, holder_of, is_temporary, plainly, replacing, write_json
from minigpt.model import ModelSpec
from minigpt.schema import plain
from minigpt.training.record import LOCK, NewerFormatError, RunRecord, read_run

BEFORE_RECORD = (LOCK, "config.yaml", "model.json")
"""What a new run writes before its record."""


class RunFolder:
    """Context manager: the folder of ``run``, held from the start when it goes on from one, else from ``write`` on.

    path: of the folder. former: the record of the run that goes on, None for a new one. lock: the folder's, when the
    caller has it already. A new folder in which no record could be written is removed again; one that a killed start
    has left without a record is free to take.
    Raises UserError for a name that is taken or leads elsewhere, and for a run that another process has.
    """

    def __init__(self, run: TrainConfig, lock: Lock | None = None):
        self.resume = run.resume
        self.path = choose_folder(run) if run.resume is None else Path(run.resume)
        self.former: RunRecord | None = None
        self._lock = None if lock is not None else Lock(self.path / LOCK, self._busy, patience=0.3)
        self._is_ours = False

    def __enter__(self) -> RunFolder:
        if self.resume is not None:
            self._record()  # before a lock is left where there is no run
            refuse_links(self.path)
            self._hold()
            self.former = self._record()
        return self

    def _record(self) -> RunRecord:
        """The record of the run to go on with. Raises UserError, with another way to its weights, without one."""
        try:
            return read_run(self.path)
        except NewerFormatError:
            raise
        except UserError as error:
            weights = (self.path / "checkpoint").is_dir()
            way_out = f"A new run can start from its weights: init_from={self.path}" if weights else "Train it again"
            raise UserError(f"{str(error).removesuffix('.')}. It cannot be gone on with. {way_out}") from None

    def write(self, run: TrainConfig, spec: ModelSpec, record: RunRecord) -> None:
        """Make the folder if it is new, and say in it what runs: configuration, model, and a record."""
        if self.resume is None:
            self._make()
        with plainly(self.path / "config.yaml"), replacing(self.path / "config.yaml") as new:
            config.save_yaml(run, new)
        write_json(self.path / "model.json", plain(spec) | {"plugins": list(run.plugins)})
        record.write()
        clear_temporary(self.path)

    def __exit__(self, *_: object) -> None:
        if self._is_ours and not (self.path / "run.json").exists():
            shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            self._lock.__exit__()

    def _make(self) -> None:
        with plainly(self.path, "made", " Choose another out="):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if not is_free(self.path):
                raise is_taken(self.path)
            self.path.mkdir(exist_ok=True)
        self._hold()
        if not is_free(self.path):  # another start was faster
            raise is_taken(self.path)
        self._is_ours = True

    def _hold(self) -> None:
        if self._lock is not None:
            self._lock.__enter__()

    def _busy(self, holder: Holder) -> None:
        if self.resume is None:
            raise is_trained(self.path, holder)
        raise UserError(f"{self.path}: is being trained by {holder}. Wait for it, or stop it first")


def choose_folder(run: TrainConfig) -> Path:
    """The folder of a new run, directly in ``out``; it is not made yet.

    Raises UserError when it is there already (nothing is overwritten), for a name that leads elsewhere, and for keys
    that only a sweep heeds.
    """
    for key, default in (("study", None), ("workers", 1), ("skip_invalid", False)):
        if getattr(run, key) != default:
            raise UserError(
                f"{key}: is heeded by sweeps (-m, explorations=), a single run would ignore it. Leave it out"
            )
    if run.name is not None and not run.name.isprintable():
        raise UserError(f"name: {run.name!r} holds characters that cannot be printed. Take a plain name")
    if run.name is not None and (Path(run.name).name != run.name or run.name == ".."):
        raise UserError(
            f"name: '{run.name}' leads out of '{run.out}'. Take a plain name, and out=<folder> for its place"
        )
    folder = Path(run.out) / (run.name or f"{time.strftime('%Y%m%d-%H%M%S')}-{run.identity[:6]}")
    with plainly(folder, "made", " Choose another name= or out="):
        if not is_free(folder) or holder_of(folder / LOCK):
            raise is_taken(folder)
    return folder


def is_free(folder: Path) -> bool:
    """Whether a run may be made here: there is nothing of this name, or only what a start leaves that was killed before
    it wrote a record. Raises OSError for a name that cannot be one."""
    try:
        if not stat.S_ISDIR(folder.lstat().st_mode):
            return False
    except (FileNotFoundError, NotADirectoryError):
        return True
    names = {path.name for path in folder.iterdir()}
    return (not names or LOCK in names) and all(name in BEFORE_RECORD or is_temporary(name) for name in names)


def is_trained(folder: Path, holder: Holder) -> UserError:
    """The error for a name whose folder a process has."""
    return UserError(f"{folder}: is there already, and is being trained by {holder}. Choose another name=")


def is_taken(folder: Path) -> UserError:
    """The error for a name that has a folder: who is at work in it, or how to go on with it."""
    if holder := holder_of(folder / LOCK):
        return is_trained(folder, holder)
    return UserError(f"{folder}: is there already. Go on with it by resume={folder}, or choose another name=")


def refuse_links(folder: Path) -> None:
    """Raise UserError for a link among the files of a run: what is written to it would land elsewhere."""
    with plainly(folder, "read"):
        places = [folder, *(place for place in (folder / "checkpoint",) if place.is_dir() and not place.is_symlink())]
        for path in sorted(path for place in places for path in place.iterdir()):
            if path.is_symlink():
                raise UserError(f"{path}: is a link, which could lead anywhere. To go on with this run, copy it whole")
