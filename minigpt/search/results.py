"""What people read of a study: a line per finished trial, the table at the end, and ``results.yaml``."""

from __future__ import annotations

import math
import os
import statistics
import sys
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minigpt.files import write_text
from minigpt.screen import console, plain_text, say, visible
from minigpt.search.points import Point, as_text
from minigpt.search.progress import counted
from minigpt.training.record import RunRecord

FILE = "results.yaml"
_SHOWN_ROWS = 40
_SHOWN_SCORES = 8
_SHARE_OF_TIME = 0.05
_FIGURES = (
    "val_loss", "best_val_loss", "bits_per_byte", "parameters", "flops_per_token", "state_bytes_per_token", "steps",
    "wall_seconds",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """Trials that differ in their seed alone. loss, spread: mean and sample standard deviation of the completed."""

    overrides: Mapping[str, Any]
    completed: tuple[RunRecord, ...]
    others: tuple[RunRecord, ...]

    @property
    def loss(self) -> float:
        losses = [r.val_loss for r in self.completed if r.val_loss is not None]
        return statistics.fmean(losses) if losses else math.inf

    @property
    def spread(self) -> float | None:
        losses = [r.val_loss for r in self.completed if r.val_loss is not None]
        return statistics.stdev(losses) if len(losses) > 1 else None


def rows(points: Sequence[Point], records: Mapping[str, RunRecord]) -> list[Row]:
    """One row per setting, the lowest loss first, settings without a completed trial last."""
    groups: dict[str, list[Point]] = {}
    for point in points:
        groups.setdefault(" ".join(f"{k}={v}" for k, v in point.overrides.items() if k != "seed"), []).append(point)
    found = []
    for members in groups.values():
        ended = [records[p.identity] for p in members if p.identity in records]
        overrides = {key: value for key, value in members[0].overrides.items() if key != "seed"}
        completed = tuple(r for r in ended if r.status == "completed")
        found.append(Row(overrides, completed, tuple(r for r in ended if r.status != "completed")))
    return sorted(found, key=lambda row: row.loss)


def describe(record: RunRecord) -> dict[str, Any]:
    """A trial as results.yaml lists it: named fields, plain values."""
    head = {"folder": record.folder.name, "overrides": dict(record.overrides), "seed": record.seed}
    end = {"status": record.status, "reason": record.reason, "config_hash": record.config_hash}
    scores = {"scores": dict(record.scores)} if record.scores else {}
    return head | end | {name: _plain_number(getattr(record, name)) for name in _FIGURES} | scores


class ResultsFile:
    """``results.yaml`` of a study, replaced whole or not at all.

    Writing thousands of trials takes a while, so on the way it takes at most a twentieth of the time; in the end it is
    written for certain, unless it is there and nothing has changed.
    """

    def __init__(self, folder: Path):
        self._file = folder / FILE
        self._trials: dict[str, tuple[RunRecord, str]] = {}
        self._next = 0.0

    def write(self, head: Mapping[str, Any], records: Collection[RunRecord], *, final: bool) -> None:
        """Write ``head`` and then all the trials."""
        started = time.monotonic()
        if not final and started < self._next:
            return
        trials = "".join(self._trial(record) for record in counted(records, len(records), f"trials put into {FILE}"))
        text = _yaml(dict(head)) + ("trials:\n" + trials if trials else "trials: []\n")
        write_text(self._file, text)
        ended = time.monotonic()
        self._next = ended + (ended - started) / _SHARE_OF_TIME

    def is_current(self, records: Iterable[RunRecord]) -> bool:
        """Whether the file is there and no record has been written since."""
        if not self._file.exists():
            return False
        written = os.stat(self._file).st_mtime_ns
        return all(os.stat(f"{record.folder}/run.json").st_mtime_ns < written for record in records)

    def _trial(self, record: RunRecord) -> str:
        known = self._trials.get(record.config_hash)
        if known is None or known[0] is not record:
            known = record, _yaml([describe(record)])
            self._trials[record.config_hash] = known
        return known[1]


def _yaml(content: Any) -> str:
    import yaml

    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # the one in C where it is built
    return yaml.dump(content, Dumper=dumper, sort_keys=False, allow_unicode=True, width=120)


def progress(done: int, of: int, record: RunRecord, quality: str = "val_loss") -> str:
    """The line of a finished trial. quality: the figure or ``scores.<task>.<metric>`` that the study goes by."""
    name = quality.removeprefix("scores.")
    value = getattr(record, name) if name == quality else record.scores.get(name)
    figure = f"{name} {value:.4f}" if value is not None else f"no {name}"
    what = figure if record.status == "completed" else record.reason
    return visible(f"[{done}/{of}] {record.folder.name}  {record.status}  {what}  {record.wall_seconds:.1f} s")


def print_table(title: str, ranked: Iterable[Row]) -> None:
    """Print the settings, best first, with mean +- standard deviation over seeds."""
    from rich.table import Table

    ranked = list(ranked)
    more, ranked = len(ranked) - _SHOWN_ROWS, ranked[:_SHOWN_ROWS]
    keys = list(dict.fromkeys(key for row in ranked for key in row.overrides))
    table = Table(title=plain_text(title), title_justify="left")
    for key in keys:
        table.add_column(plain_text(key))
    scores = list(dict.fromkeys(name for row in ranked for record in row.completed for name in record.scores))
    for name in ("seeds", "val loss", "bits/byte", *scores[:_SHOWN_SCORES], "params", "s/run"):
        table.add_column(plain_text(name), justify="right", overflow="fold")
    table.add_column("not completed", overflow="fold")
    for row in ranked:
        names = [as_text(row.overrides[key]) if key in row.overrides else "" for key in keys]
        table.add_row(
            *map(plain_text, names),
            str(len(row.completed)),
            *_figures(row, scores),
            ", ".join(r.status for r in row.others),
        )
    console(width=None if sys.stdout.isatty() else 120).print(table)
    if hidden := scores[_SHOWN_SCORES:]:
        say(f"and {len(hidden)} more scores in {FILE}: {', '.join(hidden)}")
    if more > 0:
        say(f"and {more:,} more settings in {FILE}")


def _figures(row: Row, scores: Sequence[str]) -> list[str]:
    if not row.completed:
        return [""] * (4 + len(scores[:_SHOWN_SCORES]))
    loss = f"{row.loss:.4f}" + (f" +- {row.spread:.4f}" if row.spread is not None else "")
    bits = [r.bits_per_byte for r in row.completed if r.bits_per_byte is not None]
    parameters = row.completed[0].parameters
    seconds = statistics.fmean(r.wall_seconds for r in row.completed)
    return [
        loss,
        f"{statistics.fmean(bits):.4f}" if bits else "",
        *(_score(row, name) for name in scores[:_SHOWN_SCORES]),
        f"{parameters:,}" if parameters is not None else "",
        f"{seconds:.1f}",
    ]


def _score(row: Row, name: str) -> str:
    """Mean and standard deviation over the seeds that have been evaluated."""
    values = [record.scores[name] for record in row.completed if name in record.scores]
    if not values:
        return ""
    spread = f" +- {statistics.stdev(values):.3g}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.4g}{spread}"


def _plain_number(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value
