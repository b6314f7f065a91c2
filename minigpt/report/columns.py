"""Columns of a listing: what there is to show, sort by and ask for."""

from __future__ import annotations

import fnmatch
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from minigpt.errors import UserError, did_you_mean, shown
from minigpt.report.listing import Entry, differing
from minigpt.report.numbers import count
from minigpt.screen import visible

ALIASES = {
    "loss": "val_loss", "best": "best_val_loss", "steps": "step", "params": "parameters", "time": "wall_seconds",
    "bpb": "bits_per_byte", "tokens": "tokens_seen", "memory": "peak_memory_bytes",
}  # fmt: skip
"""Shorter words for some columns."""

TITLES = {
    "name": "name", "status": "status", "val_loss": "val loss", "bits_per_byte": "bits/byte", "best_val_loss": "best",
    "best_step": "at step", "step": "step", "parameters": "params", "energy_mj": "mJ/token", "latency_ms": "ms/token",
    "area_mm2": "mm2", "tokens_per_second": "tok/s", "wall_seconds": "time", "tokens_seen": "tokens",
    "flops_per_token": "FLOPs/tok", "state_bytes_per_token": "KV B/tok", "train_loss": "train loss",
    "peak_memory_bytes": "peak bytes", "checkpoints": "checkpoints",
}  # fmt: skip
"""The columns of every table that has something in them, in the order in which they are shown."""

OTHERS = ("path", "kind", "reason", "trainable_parameters", "dataset", "seed", "precision", "stage")
"""Columns that are shown when they are asked for."""

_COUNTS = ("parameters", "trainable_parameters", "tokens_seen", "flops_per_token", "peak_memory_bytes")
_CONDITION = re.compile(
    r"\s*(?P<column>[\w./+-]+)\s*(?P<op><=|>=|!=|==|=|<|>|~)\s*(?P<value>'[^']*'|\"[^\"]*\"|[^\s,]+)"
    r"(?:\s*,\s*|\s+and\s+|\s+|$)"
)
_ORDER: dict[str, Callable[[float, float], bool]] = {
    "<": lambda a, b: a < b, ">": lambda a, b: a > b, "<=": lambda a, b: a <= b, ">=": lambda a, b: a >= b,
}  # fmt: skip


def column(name: str, entries: Sequence[Entry], path: str) -> str:
    """The column that a word means. Raises UserError for one that none of the entries has."""
    figures = {*TITLES, *OTHERS} | {key for e in entries for key in e.values}
    keys = {key for e in entries for key in e.configuration}
    if name in figures or name in keys:
        return name
    if name in ALIASES:
        return ALIASES[name]
    raise UserError(
        f"{path}: there is no column '{shown(name, 60)}'.{did_you_mean(name, [*figures, *keys, *ALIASES])}\n"
        f"  columns: {', '.join(sorted(figures))}; and keys of the configuration, such as optimizer.lr"
    )


def value_of(entry: Entry, name: str) -> Any:
    """What an entry has in a column; None when it has nothing there."""
    own = {
        "name": entry.name, "path": str(entry.path), "kind": entry.kind, "status": entry.status or None,
        "reason": entry.reason or None,
    }  # fmt: skip
    for values in (own, entry.values, entry.configuration):
        if name in values:
            value = values[name]
            return None if isinstance(value, float) and math.isnan(value) else value
    return None


def extra_columns(entries: Sequence[Entry]) -> list[str]:
    """The columns beyond those of every table: scores of tasks, and what task and model measured."""
    names = dict.fromkeys(key for e in entries if e.record for key in (*e.record.scores, *e.record.figures))
    return [name for name in names if any(name in e.values for e in entries)]


def shown_columns(entries: Sequence[Entry]) -> list[str]:
    """The columns in which some entry has something, scores after the loss."""
    found = []
    for name in TITLES:
        found.append(name)
        if name == "parameters":
            found += extra_columns(entries)
    kept = [n for n in found if n == "name" or any(value_of(e, n) is not None for e in entries)]
    mixed = "status" not in kept and len({e.kind for e in entries}) > 1
    return ["name", "status", *kept[1:]] if mixed else kept


def ordered(entries: Sequence[Entry], by: str, *, reverse: bool = False) -> list[Entry]:
    """Entries by a column, numbers before texts, smallest first; those with nothing in it stay last either way."""
    name = column(by, entries, "sort")
    known = [(value, e) for e in entries if (value := value_of(e, name)) is not None]
    without = [e for e in entries if value_of(e, name) is None]
    known.sort(key=lambda pair: _sortable(pair[0]), reverse=reverse)
    return [e for _, e in known] + without


def _sortable(value: Any) -> tuple[bool, float, str]:
    if isinstance(value, (int, float)):  # bool too
        return False, float(value), ""
    return True, 0.0, str(value)


@dataclass(frozen=True)
class Condition:
    """``<column> <op> <value>``. op: = and != compare numbers and words, < <= > >= numbers, ~ a pattern with ``*``."""

    column: str
    op: str
    value: str

    def holds(self, entry: Entry) -> bool:
        """Whether an entry meets it. One with nothing in the column meets ``=none`` and ``!=`` alone."""
        value = value_of(entry, self.column)
        if self.op == "~":
            return value is not None and fnmatch.fnmatchcase(_word(value), self.value)
        if self.op in ("=", "!="):
            said_of_it = _overrides(entry).get(self.column, value)  # attention=mqa is causal with one key head
            return (self._equals(value) or self._equals(said_of_it)) == (self.op == "=")
        if isinstance(value, str):
            raise UserError(f"where: {self.column}{self.op}{self.value}: '{visible(value)[:40]}' is no number")
        return value is not None and _ORDER[self.op](float(value), float(self.value))

    def _equals(self, value: Any) -> bool:
        if value is None:
            return self.value in ("none", "null")
        number = _number(self.value)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and number is not None:
            return float(value) == number
        return _word(value) == self.value


def conditions(where: str, entries: Sequence[Entry]) -> list[Condition]:
    """The conditions of a text such as ``val_loss<2.3 and softmax=consmax``, all of which have to hold.

    Raises UserError for what is none, and for a column that no entry has.
    """
    found, at = [], 0
    while at < len(where):
        match = _CONDITION.match(where, at)
        if match is None:
            raise UserError(
                f"where: '{visible(where[at:])[:60]}' is no condition. Expected such as val_loss<2.3 and "
                f"softmax=consmax; signs: = != < <= > >= and ~ for a pattern with *"
            )
        value, op = match["value"], "=" if match["op"] == "==" else match["op"]
        if value[0] in "'\"":
            value = value[1:-1]
        if op in _ORDER and _number(value) is None:
            raise UserError(f"where: {match['column']}{op}{visible(value)[:40]}: expected a number after {op}")
        found.append(Condition(column(match["column"], entries, "where"), op, value))
        at = match.end()
    return found


def differences(entries: Sequence[Entry]) -> list[Mapping[str, Any]]:
    """Per entry, its values of the keys in which configurations differ: as they were said, where that is all there is
    to it (``attention=mqa``), else as they are (``attention=causal attention.n_kv_head=1``)."""
    keys = differing(entries)
    found: list[Mapping[str, Any]] = [{k: e.configuration[k] for k in keys if k in e.configuration} for e in entries]
    words = _as_said(entries)
    meant: dict[str, str] = {}
    told = all(meant.setdefault(repr(word), repr(each)) == repr(each) for word, each in zip(words, found, strict=True))
    return words if any(words) and told else found


def _as_said(entries: Sequence[Entry]) -> list[Mapping[str, Any]]:
    """Per entry, what was said of it and not of all; nothing where not the same keys were said of all."""
    said_of = [_overrides(e) for e in entries]
    if len({frozenset(each) for each in said_of}) != 1:
        return [{} for _ in entries]
    keys = [key for key in said_of[0] if len({repr(each[key]) for each in said_of}) > 1]
    keys.sort(key=lambda key: key == "seed")
    return [{key: each[key] for key in keys} for each in said_of]


def _overrides(entry: Entry) -> dict[str, Any]:
    given = entry.record.overrides if entry.record else {}
    return {key: value for key, value in given.items() if isinstance(value, (str, int, float)) and key != "plugins"}


def short_keys(found: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Each key of :func:`differences` -> its last word, where that says enough."""
    keys = dict.fromkeys(key for each in found for key in each)
    last = [key.rpartition(".")[2] for key in keys]
    return {key: word if last.count(word) == 1 else key for key, word in zip(keys, last, strict=True)}


def as_text(name: str, value: Any) -> str:
    """A value of a column for a person."""
    if value is None:
        return "-"
    if isinstance(value, (bool, str)):
        return _word(value)
    if name in _COUNTS:
        return count(value)
    if name == "wall_seconds":
        return f"{value:.0f} s" if value < 600 else f"{value / 60:,.0f} min"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) < 10**15 else f"{value:.3e}"
    if name == "tokens_per_second" or (abs(value) >= 1000 and abs(value) < 1e7):
        return f"{value:,.0f}"
    if name in ("val_loss", "best_val_loss", "train_loss", "bits_per_byte") and abs(value) < 1000:
        return f"{value:.4f}"
    return f"{value:.4g}"


def said(name: str, value: Any) -> str:
    """``key=value``, with the number short."""
    return f"{name}={f'{value:.6g}' if isinstance(value, float) else _word(value)}"


def _word(value: Any) -> str:
    words = {None: "null", True: "true", False: "false"}
    if value is None or isinstance(value, bool):
        return words[value]
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
