"""The record of a run: the one source for every table, plot, search and report.

A run's folder holds ``config.yaml`` (the resolved configuration), ``model.json`` (the resolved model),
``metrics.jsonl`` (one line per log or validation), ``run.json`` (this record) and ``checkpoint/``. Nothing here imports
torch.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from minigpt.errors import UserError
from minigpt.files import DiskFullError, overwrite_text, read_json, write_text
from minigpt.schema import Count, NonNegativeInt, PositiveFloat, PositiveInt, options, plain, typed

FORMAT = 1
Status = Literal["running", "completed", "failed", "diverged", "out_of_memory", "interrupted"]
FINAL = ("completed", "failed", "diverged", "out_of_memory")
"""Statuses that another start of the same run would not change."""
LOCK = ".lock"
"""The file in a run's folder that the process which trains it holds."""
LARGEST = 8 << 20
"""Bytes of a run.json; one of a long sweep with many figures has some 10,000."""
SHOWN = 5
"""Records that cannot be read, named one by one."""


@options
class BudgetChange:
    """What a run was given, and from which step on. at: the time it was, ISO 8601."""

    from_step: NonNegativeInt
    at: str
    max_steps: Count | None
    max_tokens: Count | None
    max_seconds: PositiveFloat | None

    def limits(self) -> tuple[int | None, int | None, float | None]:
        return self.max_steps, self.max_tokens, self.max_seconds


@options
class RunRecord:
    """What a run was and what came of it. Fields not known yet are None.

    format: of this record. stage: what the training was for. code: ``axis=name`` -> hash of the code of the variants
    it is made of; of code that was edited between two sessions of the run, ``<hash>, then <hash>``. budgets: the first,
    and every other one it went on with.

    val_loss: cross-entropy in nats per token over the fixed validation split, at the end. best_val_loss: the lowest
    seen, at best_step. bits_per_byte: val_loss in bits per byte of the text. overrides: what was said of this run.
    flops_per_token: of one decode step's matrix products at context block_size. state_bytes_per_token: cache bytes at
    that context, divided by it, in the training's working format. figures: what task and model measured, by name, at
    the last log line. scores: ``<task>.<metric>`` -> what its last checkpoint that was evaluated reached, as
    lm-evaluation-harness names them. evaluated: the tasks and groups that were asked for. parent: the checkpoint it
    started from, parent_hash of that one's content. companions: of the further models that the task asks, checkpoint ->
    hash of its content.
    """

    format: PositiveInt = FORMAT
    name: str
    status: Status
    reason: str = ""
    config_hash: str
    seed: int
    stage: str = "pretraining"
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    val_loss: float | None = None
    best_val_loss: float | None = None
    best_step: int | None = None
    bits_per_byte: float | None = None
    train_loss: float | None = None
    figures: Mapping[str, float] = dataclasses.field(default_factory=dict)
    scores: Mapping[str, float] = dataclasses.field(default_factory=dict)
    evaluated: tuple[str, ...] = ()
    steps: int = 0
    tokens_seen: int = 0
    wall_seconds: float = 0.0
    tokens_per_second: float | None = None
    peak_memory_bytes: int | None = None
    parameters: int | None = None
    trainable_parameters: int | None = None
    flops_per_token: int | None = None
    state_bytes_per_token: float | None = None
    parent: str | None = None
    parent_hash: str | None = None
    companions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    dataset: str | None = None
    dataset_hash: str | None = None
    tokenizer_hash: str | None = None
    code: Mapping[str, str] = dataclasses.field(default_factory=dict)
    budgets: tuple[BudgetChange, ...] = ()
    git_commit: str | None = None
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    machine: str = ""
    device: str | None = None
    precision: str | None = None
    folder: Path = dataclasses.field(default=Path(), compare=False)

    def write(self) -> None:
        """Write ``run.json`` into the run's folder, whole or not at all."""
        write_text(self.folder / "run.json", self.to_json())

    def to_json(self) -> str:
        """What ``run.json`` holds: every field but the folder."""
        content = plain(self)
        del content["folder"]
        return json.dumps(content, indent=1) + "\n"

    def updated(self, **changes: Any) -> RunRecord:
        """The same record with some fields changed, written."""
        record = dataclasses.replace(self, **changes)
        record.write()
        return record

    def close_without_room(self, status: Status, reason: str) -> None:
        """Write how the run ended; on a disk that has no room to replace the record, over it."""
        record = dataclasses.replace(self, status=status, reason=reason)
        try:
            record.write()
        except DiskFullError:
            with contextlib.suppress(UserError):
                overwrite_text(self.folder / "run.json", record.to_json())


@dataclasses.dataclass(frozen=True)
class Runs:
    """What was found of runs. unreadable: the folder of each whose record cannot be read, and why."""

    records: list[RunRecord]
    unreadable: list[tuple[Path, str]]

    def complaint(self) -> str:
        """What a person should hear of those that cannot be read; nothing when there are none."""
        if not self.unreadable:
            return ""
        first = "\n  ".join(reason for _, reason in self.unreadable[:SHOWN])
        more = f"\n  and {len(self.unreadable) - SHOWN} more" if len(self.unreadable) > SHOWN else ""
        return f"{len(self.unreadable)} records could not be read:\n  {first}{more}"


class NewerFormatError(UserError):
    """A record that is whole, and of a later minigpt."""


def read_run(folder: Path | str) -> RunRecord:
    """Read the record of one run; raises UserError when there is none, or it is no record this minigpt can read."""
    folder = Path(folder)
    file = folder / "run.json"
    if not file.exists() and not file.is_symlink():
        raise UserError(f"{folder}: no run here (run.json is missing)")
    content = read_json(file, limit=LARGEST, links=False)
    if not isinstance(content, dict) or "folder" in content:
        raise UserError(f"{file}: not a run record")
    written = content.get("format", FORMAT)
    if type(written) is int and written > FORMAT:
        raise NewerFormatError(f"{file}: format {written} is newer than this minigpt reads ({FORMAT}). Update minigpt")
    try:
        return typed(RunRecord, content | {"folder": folder})
    except UserError as error:
        raise UserError(f"{file}: not a run record ({' '.join(str(error).split())[:200]})") from None


def find_runs(folder: Path | str) -> Runs:
    """The records of all runs at or below ``folder``, sorted by path. One that cannot be read is listed as such."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    found = Runs([], [])
    for file in sorted(folder.rglob("run.json")):
        try:
            found.records.append(read_run(file.parent))
        except UserError as error:
            found.unreadable.append((file.parent, str(error)))
    return found


def provenance() -> dict[str, Any]:
    """git_commit, versions and machine of this process, as RunRecord fields."""
    versions = {"python": platform.python_version()} | {name: _version(name) for name in ("torch", "numpy", "minigpt")}
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    return {"git_commit": _git_commit(), "versions": versions, "machine": machine}


def _version(package: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"  # minigpt itself, when it runs from a checkout


def _git_commit() -> str | None:
    source = Path(__file__).parent
    try:
        found = subprocess.run(
            ["git", "-C", str(source), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None  # not a checkout, or no git: the versions still say what ran
    return found.stdout.strip()
