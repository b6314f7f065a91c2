"""A listing as text: one line an entry whatever the width, as JSON, and as CSV."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from minigpt.report.columns import (
    OTHERS,
    TITLES,
    as_text,
    differences,
    extra_columns,
    said,
    short_keys,
    shown_columns,
    value_of,
)
from minigpt.report.listing import Entry
from minigpt.schema import plain
from minigpt.screen import csv_cell, visible

_GAP = 2  # blanks between columns
_NAME = 16  # a name is cut in the middle rather than the columns below, but not shorter than this
_DIFFERS = 24  # what differs gets at least this much before the less important columns do
_TITLE = 20  # of a score
_PRICES = ("energy_mj", "latency_ms", "area_mm2")  # there only when a machine was named, so they were asked for
_SHOWN_UNREADABLE = 10
_IMPORTANT = (
    "name", "status", "val_loss", *_PRICES, "step", "parameters", "bits_per_byte", "tokens_per_second",
    "wall_seconds", "best_val_loss", "flops_per_token", "tokens_seen", "best_step", "state_bytes_per_token",
    "train_loss", "peak_memory_bytes",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Shown:
    """What a listing shows. entries: in order, unreadable ones apart. hidden: how many more there are. where: the
    folder looked at. columns: those asked for, None for what fits."""

    entries: Sequence[Entry]
    unreadable: Sequence[Entry]
    hidden: int
    where: str
    columns: Sequence[str] | None


def as_table(shown: Shown, width: int) -> list[str]:
    """Lines no wider than ``width``: one an entry, one for the reason of each that failed, then what is unreadable."""
    from rich.cells import cell_len

    names = list(shown.columns) if shown.columns is not None else shown_columns(shown.entries)
    cells = {name: [visible(_cell(e, name)) for e in shown.entries] for name in names}
    said_of = _differs(shown.entries) if shown.columns is None else []
    titles = _titles(names)
    widths = {name: max(map(cell_len, (titles[name], *cells[name]))) for name in names}
    if "name" in widths:
        widths["name"] = min(widths["name"], max(_NAME, width // 3))
    spare = min(_DIFFERS, width // 4) + _GAP if any(said_of) else 0
    chosen = _fitting(names, widths, width - spare) if shown.columns is None else names
    taken = sum(widths[name] + _GAP for name in chosen)
    rest = width - taken if any(said_of) else 0
    head = [_fill(titles[name], widths[name], _is_text(name)) for name in chosen]
    lines = [_cut((" " * _GAP).join(head + (["differs in"] if rest > _GAP else [])), width).rstrip()]
    for i, entry in enumerate(shown.entries):
        row = [_fill(_cut(cells[name][i], widths[name]), widths[name], _is_text(name)) for name in chosen]
        if rest > _GAP and said_of[i]:
            row.append(_cut(said_of[i], rest, middle=False))
        lines.append(_cut((" " * _GAP).join(row), width, middle=False).rstrip())
        if entry.reason and "reason" not in chosen:
            lines.append(_cut(f"    {visible(entry.reason)}", width, middle=False))
    return [*lines, *_unreadable(shown.unreadable, width), *_summary(shown, names, chosen)]


def _fitting(names: Sequence[str], widths: Mapping[str, int], width: int) -> list[str]:
    """The columns that fit, the important ones first, in the order given; scores of tasks after loss and prices."""
    important = [name for name in _IMPORTANT if name in names]
    others = [name for name in names if name not in _IMPORTANT]
    chosen: set[str] = set()
    taken = 0
    first = sum(name in _IMPORTANT[: 5 + len(_PRICES)] for name in names)
    for name in [*important[:first], *others, *important[first:]]:
        if not chosen or taken + widths[name] + _GAP <= width:
            chosen.add(name)
            taken += widths[name] + _GAP
    return [name for name in names if name in chosen]


def _summary(shown: Shown, names: Sequence[str], chosen: Sequence[str]) -> list[str]:
    kinds = [e.kind for e in (*shown.entries, *shown.unreadable)]
    words = {"run": "run", "checkpoint": "checkpoint", "nanogpt": "nanoGPT file", "huggingface": "Hugging Face folder"}
    numbers = {word: kinds.count(kind) for kind, word in words.items() if kind in kinds}
    counted = [f"{number} {word}{'s' * (number != 1)}" for word, number in numbers.items()]
    if shown.unreadable:
        counted.append(f"{len(shown.unreadable)} unreadable")
    more = f", {shown.hidden} more not shown" if shown.hidden else ""
    lines = [visible(f"{', '.join(counted) or 'nothing'} in {shown.where}{more}")]
    if left := [TITLES.get(name, visible(name)) for name in names if name not in chosen]:
        lines.append(f"not shown at this width: {', '.join(left)}")
    return lines


def _unreadable(entries: Sequence[Entry], width: int) -> list[str]:
    if not entries:
        return []
    lines = ["", "unreadable"]
    lines += [f"  {visible(e.name)}: {visible(e.reason)}" for e in entries[:_SHOWN_UNREADABLE]]
    if len(entries) > _SHOWN_UNREADABLE:
        lines.append(f"  and {len(entries) - _SHOWN_UNREADABLE} more (json=true lists all)")
    return [*lines, ""]


def _differs(entries: Sequence[Entry]) -> list[str]:
    """Per entry, what tells it from the others."""
    found = differences(entries)
    short = short_keys(found)
    return [visible(" ".join(said(short[key], value) for key, value in each.items())) for each in found]


def _cell(entry: Entry, name: str) -> str:
    if name == "status":
        return entry.status or entry.kind
    return as_text(name, value_of(entry, name))


def _titles(names: Sequence[str]) -> dict[str, str]:
    """Column -> its title, no two the same: of scores what their names do not share, cut in the middle."""
    scores = [name for name in names if name not in (*TITLES, *OTHERS)]
    heads = {"".join(name.rpartition(".")[0].partition("_")[:2]) for name in scores}
    shared = heads.pop() if len(scores) > 1 and len(heads) == 1 else ""  # builtin_, of the whole suite
    shared = shared if shared.endswith("_") else ""
    short = {name: _cut(visible(name.removeprefix(shared)), _TITLE) for name in scores}
    found = list(short.values())
    clear = {name: title if found.count(title) == 1 else visible(name) for name, title in short.items()}
    return {name: TITLES.get(name) or clear.get(name, name) for name in names}


def _is_text(name: str) -> bool:
    return name in ("name", "status", "path", "kind", "reason", "checkpoints", "dataset", "stage", "precision")


def _fill(text: str, width: int, left: bool) -> str:
    from rich.cells import cell_len

    blanks = " " * max(0, width - cell_len(text))
    return text + blanks if left else blanks + text


def _cut(text: str, width: int, *, middle: bool = True) -> str:
    """A text no wider than ``width``, with three dots in place of its middle or its end."""
    from rich.cells import cell_len, set_cell_size

    text = text.replace("\n", " ")
    if cell_len(text) <= width:
        return text
    if width < 8 or not middle:
        return set_cell_size(text, max(0, width - 3)).rstrip() + "..."[:width]
    end = (width - 3) // 2
    tail = text[-end:]
    while cell_len(tail) > end:
        tail = tail[1:]
    return set_cell_size(text, width - 3 - cell_len(tail)) + "..." + tail


def as_json(shown: Shown) -> str:
    """Every entry, the unreadable ones too, with full precision; no finite number is null."""
    entries = [*shown.entries, *shown.unreadable]
    found = [_for_programs(e, dict(d)) for e, d in zip(entries, differences(entries), strict=True)]
    if shown.columns is not None:
        found = [{name: finite(value_of(e, name)) for name in shown.columns} for e in entries]
    return json.dumps(found, indent=1, allow_nan=False)


def _for_programs(entry: Entry, differs: dict[str, Any]) -> dict[str, Any]:
    head = {"name": entry.name, "kind": entry.kind, "folder": str(entry.path)}
    record = {k: v for k, v in plain(entry.record).items() if k not in ("name", "folder")} if entry.record else {}
    said = {"status": entry.status or None, "reason": entry.reason, "differs": differs}
    return finite(head | record | dict(entry.values) | said)


def finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: finite(each) for key, each in value.items()}
    return [finite(each) for each in value] if isinstance(value, list | tuple) else value


def as_csv(shown: Shown) -> str:
    """One row an entry, one column a figure, a score or a key in which configurations differ; unknown is empty."""
    entries = [*shown.entries, *shown.unreadable]
    differs = differences(entries)
    keys = list(dict.fromkeys(key for each in differs for key in each))
    names = ["name", "kind", "status", "reason", *(n for n in TITLES if n not in ("name", "status"))]
    names = list(shown.columns) if shown.columns is not None else [*names, *extra_columns(entries), *keys]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(map(csv_cell, names))
    writer.writerows([csv_cell(_plain(value_of(e, name))) for name in names] for e in entries)
    return text.getvalue()


def _plain(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None or (isinstance(value, float) and not math.isfinite(value)) else value
