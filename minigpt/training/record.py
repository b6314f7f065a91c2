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
from minigpt.files import DiskFullError, overwrite_text, write_text

Status = Literal["running", "completed", "failed", "diverged", "out_of_memory", "interrupted"]
FINAL = ("completed", "failed", "diverged", "out_of_memory")
"""Statuses that another start of the same run would not change."""
LOCK = ".lock"
"""The file in a run's folder that the process which trains it holds."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunRecord:
    """What a run was and what came of it. Fields not known yet are None.

    val_loss: cross-entropy in nats per token over the fixed validation split, at the end. best_val_loss: the lowest
    seen, at best_step. bits_per_byte: val_loss in bits per byte of the text. overrides: what was said of this run.
    flops_per_token: of one decode step's matrix products at context block_size. state_bytes_per_token: cache bytes at
    that context, divided by it, in the training's working format. figures: what task and model measured, by name, at
    the last log line. parent: the checkpoint it started from, parent_hash of that one's content.
    """

    name: str
    status: Status
    reason: str = ""
    config_hash: str
    seed: int
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    val_loss: float | None = None
    best_val_loss: float | None = None
    best_step: int | None = None
    bits_per_byte: float | None = None
    train_loss: float | None = None
    figures: Mapping[str, float] = dataclasses.field(default_factory=dict)
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
    dataset: str | None = None
    dataset_hash: str | None = None
    tokenizer_hash: str | None = None
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
        content = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "folder"}
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


def read_run(folder: Path | str) -> RunRecord:
    """Read the record of one run; raises UserError when there is none or it is torn."""
    folder = Path(folder)
    file = folder / "run.json"
    if not file.is_file():
        raise UserError(f"{folder}: no run here (run.json is missing)")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return RunRecord(**content, folder=folder)
    except (json.JSONDecodeError, TypeError) as error:
        raise UserError(f"{file}: not a run record ({error})") from None


def find_runs(folder: Path | str) -> list[RunRecord]:
    """The records of all runs at or below ``folder``, sorted by path."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    return [read_run(file.parent) for file in sorted(folder.rglob("run.json"))]


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
