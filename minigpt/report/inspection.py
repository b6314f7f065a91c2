"""What was trained, in a table; and what is in one checkpoint, tensor by tensor."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import sys
from pathlib import Path
from typing import Any, Literal

from rich import box
from rich.console import Console
from rich.table import Table

from minigpt.checkpoint_folder import find_checkpoint, read_json, read_meta, refused, verified
from minigpt.errors import UserError
from minigpt.schema import PositiveInt, options
from minigpt.screen import console, plain_text, say
from minigpt.training.record import RunRecord, find_runs

SORTS = {
    "loss": lambda run: _last_if_missing(run.val_loss),
    "name": lambda run: (False, str(run.folder)),
    "step": lambda run: (False, run.steps),
    "params": lambda run: _last_if_missing(run.parameters),
    "time": lambda run: (False, run.wall_seconds),
}


@options
class InspectConfig:
    """What to show.

    directory: list all runs below this folder. path: or show one checkpoint, of a run's folder or a checkpoint's.
    sort: of the list. reverse: largest first; runs without a value stay last. limit: show only so many runs. json: the
    same, for programs.
    """

    directory: str = "out"
    path: str | None = None
    sort: Literal["loss", "name", "step", "params", "time"] = "loss"
    reverse: bool = False
    limit: PositiveInt | None = None
    json: bool = False


def inspect(config: InspectConfig) -> None:
    """Print what the options ask for."""
    if config.path is not None:
        show_checkpoint(Path(config.path), as_json=config.json)
        return
    directory = Path(config.directory)
    runs = ordered(find(directory), config.sort, reverse=config.reverse)
    show_runs(runs[: config.limit], len(runs), directory, as_json=config.json)


def find(directory: Path) -> list[RunRecord]:
    """The readable runs at or below ``directory``; an unreadable one is named on stderr. Raises UserError for none."""
    if not directory.is_dir():
        raise UserError(f"directory: {directory}: no such folder. Runs are in out/ unless training was told otherwise")
    found = find_runs(directory)
    if found.unreadable:
        say(found.complaint(), lines=True, file=sys.stderr)
    if not found.records:
        none = "no readable run" if found.unreadable else "no run (run.json)"
        raise UserError(f"directory: {directory}: {none} in it. Train one: python train.py out={directory}")
    return found.records


def ordered(runs: list[RunRecord], sort: str, *, reverse: bool = False) -> list[RunRecord]:
    """Runs by one of SORTS, smallest first; those without a value are last either way."""
    key = SORTS[sort]
    known, unknown = [r for r in runs if not key(r)[0]], [r for r in runs if key(r)[0]]
    return sorted(known, key=key, reverse=reverse) + unknown


def show_runs(runs: list[RunRecord], total: int, directory: Path, *, as_json: bool) -> None:
    """Print runs as a table, or as JSON records."""
    if as_json:
        records = [dataclasses.asdict(run) | {"folder": str(run.folder)} for run in runs]
        print(json.dumps(records, indent=1))
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("run", overflow="fold", min_width=12)
    table.add_column("status")
    for title in ("val loss", "best", "at step", "bits/byte", "params", "steps", "tokens", "tok/s", "time"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("overrides", overflow="fold")
    for run in runs:
        table.add_row(*map(plain_text, _row(run, directory)))
    _console().print(table)
    hidden = f", {total - len(runs)} more not shown" if total > len(runs) else ""
    _console().print(plain_text(f"{len(runs)} runs in {directory}{hidden}"))


def _row(run: RunRecord, directory: Path) -> list[str]:
    name = str(run.folder.relative_to(directory)) if run.folder != directory else run.name
    return [
        name,
        run.status + (f": {run.reason}" if run.reason and run.status != "completed" else ""),
        _number(run.val_loss, ".4f"),
        _number(run.best_val_loss, ".4f"),
        _number(run.best_step, ","),
        _number(run.bits_per_byte, ".4f"),
        _number(run.parameters, ","),
        _number(run.steps, ","),
        _number(run.tokens_seen, ","),
        _number(run.tokens_per_second, ",.0f"),
        f"{run.wall_seconds:.0f} s" if run.wall_seconds < 600 else f"{run.wall_seconds / 60:.0f} min",
        " ".join(f"{key}={value}" for key, value in run.overrides.items()),
    ]


def show_checkpoint(path: Path, *, as_json: bool) -> None:
    """Print what a checkpoint is, and name, role, shape, type and statistics of every tensor in it."""
    folder = find_checkpoint(path)
    verified(folder, ("model.safetensors", "model.json"))
    meta, spec = read_meta(folder), read_json(folder, "model.json")
    tensors = statistics(folder, meta)
    training = {key: value for key, value in meta.items() if key not in ("format", "files", "roles")}
    if as_json:
        print(json.dumps({"folder": str(folder), "meta": training, "model": spec, "tensors": tensors}, indent=1))
        return
    console = _console()
    console.print(plain_text(f"{folder}: " + ", ".join(f"{key} {value}" for key, value in training.items())))
    sizes = {k: v for k, v in spec.items() if not isinstance(v, (dict, list))}
    console.print(plain_text("model: " + ", ".join(f"{key} {value}" for key, value in sizes.items())))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("tensor", "role", "shape", "type", "mean", "std", "min", "max"):
        table.add_column(title, justify="right" if title in ("mean", "std", "min", "max") else "left", no_wrap=True)
    for each in tensors:
        numbers = (_number(each[key], ".4g") for key in ("mean", "std", "min", "max"))
        table.add_row(*map(plain_text, (each["name"], each["role"], _shape(each["shape"]), each["dtype"], *numbers)))
    console.print(table)


def statistics(folder: Path, meta: dict[str, Any]) -> list[dict[str, Any]]:
    """One record per tensor, read one at a time, layers in order; numbers are None for a type numpy does not have."""
    from safetensors import SafetensorError, safe_open

    roles = meta["roles"] if isinstance(meta.get("roles"), dict) else {}
    records = []
    try:
        with safe_open(folder / "model.safetensors", framework="numpy") as file:
            for name in sorted(file.keys(), key=_in_order):
                view = file.get_slice(name)
                record = {"name": name, "role": str(roles.get(name, "?")), "shape": view.get_shape()}
                records.append(record | {"dtype": view.get_dtype()} | _moments(file, name))
    except (SafetensorError, OSError) as error:
        raise refused(folder, error) from None
    return records


def _moments(file: Any, name: str) -> dict[str, float | None]:
    nothing = dict.fromkeys(("mean", "std", "min", "max"))
    try:
        values = file.get_tensor(name)
    except TypeError:  # bfloat16 and narrower
        return nothing
    if not values.size:
        return nothing
    found = {"mean": values.mean(dtype="f8"), "std": values.std(dtype="f8"), "min": values.min(), "max": values.max()}
    return {key: float(value) for key, value in found.items()}


def _in_order(name: str) -> list[Any]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in name.split(".")]


def _last_if_missing(value: float | None) -> tuple[bool, float]:
    return (True, 0.0) if value is None or math.isnan(value) else (False, value)


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _shape(shape: list[int]) -> str:
    return " x ".join(map(str, shape)) or "scalar"


def _console() -> Console:
    """As wide as the terminal; wide enough for every column when written to a file."""
    return console(width=shutil.get_terminal_size((200, 40)).columns, highlight=False)
