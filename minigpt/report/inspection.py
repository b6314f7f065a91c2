"""What was trained, in a table; and what is in one checkpoint, tensor by tensor."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import Any, Literal

from minigpt.errors import UserError
from minigpt.hardware import HardwareSpec
from minigpt.report import columns, listing_table
from minigpt.report.listing import Entry, Listing
from minigpt.report.listing_table import Shown
from minigpt.schema import PositiveFloat, PositiveInt, options
from minigpt.screen import console, plain_text, say


@options
class InspectConfig:
    """What to show.

    directory: list what lies below this folder: runs, checkpoints of ours, of nanoGPT and of Hugging Face. path: or
    show one of them, tensor by tensor. sort: by any column; loss, params, time are short words. reverse: largest
    first; what has no value stays last. limit: show only so many. where: only what meets every condition:
    "val_loss<2.3 and softmax=consmax"; signs = != < <= > >=, and ~ for a pattern with *. columns: these alone: figures,
    scores such as arc_easy.acc, keys of the configuration. checkpoints: the best, last or all checkpoints of every run
    in place of the runs. hardware: price every model on this machine, too: energy_mj, latency_ms, area_mm2. plugins:
    modules that register parts of the models to price. json, csv: the same, for programs. watch: look again every
    so many seconds (interval) until Ctrl-C. interval: of watch.
    """

    directory: str = "out"
    path: str | None = None
    sort: str = "val_loss"
    reverse: bool = False
    limit: PositiveInt | None = None
    where: str | None = None
    columns: list[str] = ()  # type: ignore[assignment]
    checkpoints: Literal["best", "last", "all"] | None = None
    hardware: HardwareSpec | None = None
    plugins: list[str] = ()  # type: ignore[assignment]
    json: bool = False
    csv: bool = False
    watch: bool = False
    interval: PositiveFloat = 2.0

    def __post_init__(self):
        if self.json and self.csv:
            raise UserError("csv: json is asked for, too. Take one of them")
        of_a_listing = {
            "watch": False, "csv": False, "checkpoints": None, "where": None, "limit": None, "sort": "val_loss",
            "reverse": False, "hardware": None,
        }  # fmt: skip
        for key, default in of_a_listing.items():
            if self.path is not None and getattr(self, key) != default:
                raise UserError(f"{key}: is of a listing; path={self.path} shows one checkpoint. Leave one out")
        if self.path is not None and self.columns:
            raise UserError(f"columns: are of a listing; path={self.path} shows one checkpoint. Leave one out")
        if self.watch and (self.json or self.csv):
            raise UserError("watch: redraws a table; json and csv are written once. Leave one out")
        if self.interval != 2.0 and not self.watch:
            raise UserError("interval: is of watch. Give watch=true, or leave it out")
        if self.plugins and self.hardware is None:
            raise UserError("plugins: are needed to price models; without hardware= they would do nothing")


def inspect(config: InspectConfig) -> None:
    """Print what the options ask for."""
    if config.path is not None:
        from minigpt.report.checkpoint_view import show

        show(Path(config.path), as_json=config.json)
        return
    listing = Listing(Path(config.directory), config.checkpoints)
    if config.watch:
        _watch(config, listing)
        return
    shown = selected(config, listing.entries(), {})
    if not shown.entries and not shown.unreadable and not config.where:
        raise UserError(
            f"directory: {config.directory}: no run (run.json) and no checkpoint in it. "
            f"Train one: python train.py out={config.directory}"
        )
    if config.json:
        say(listing_table.as_json(shown), lines=True)
    elif config.csv:
        say(listing_table.as_csv(shown).rstrip("\n"), lines=True)
    else:
        for line in listing_table.as_table(shown, _width()):
            say(line)


def selected(config: InspectConfig, entries: list[Entry], prices: dict[str, Any]) -> Shown:
    """What of the entries is shown, in order. prices: of models priced before. Raises UserError for a column that none
    of them has."""
    readable = [e for e in entries if e.kind != "unreadable"]
    if config.hardware is not None:
        from minigpt.report.pricing import priced

        readable = priced(readable, config.hardware, prices)
    asked = columns.conditions(config.where, readable) if config.where and readable else []
    kept = [e for e in readable if all(condition.holds(e) for condition in asked)]
    kept = columns.ordered(kept, config.sort, reverse=config.reverse)
    names = [columns.column(name, readable, "columns") for name in config.columns] if config.columns else None
    unreadable = [] if config.where else [e for e in entries if e.kind == "unreadable"]
    limit = len(kept) if config.limit is None else config.limit
    return Shown(kept[:limit], unreadable, max(0, len(kept) - limit), config.directory, names)


def _watch(config: InspectConfig, listing: Listing) -> None:
    """Redraw the table until Ctrl-C, which is how it is meant to end."""
    from rich.live import Live

    if not sys.stdout.isatty():
        raise UserError("watch: redraws a terminal, and the output is none. Leave it out")
    screen, prices = console(highlight=False), dict[str, Any]()
    try:
        with Live(console=screen, auto_refresh=False, transient=False, vertical_overflow="crop") as live:
            while True:
                shown = selected(config, listing.entries() if listing.directory.is_dir() else [], prices)
                lines = listing_table.as_table(shown, screen.width - 1)
                lines += [f"{time.strftime('%H:%M:%S')}, every {config.interval:g} s; Ctrl-C ends"]
                live.update(plain_text("\n".join(_high(lines, screen.height - 1))), refresh=True)
                time.sleep(config.interval)
    except KeyboardInterrupt:
        return


def _high(lines: list[str], height: int) -> list[str]:
    """As many lines as a terminal shows: the first, and the last ones with what they sum up."""
    if len(lines) <= height or height < 6:
        return lines
    return [*lines[: height - 4], f"... {len(lines) - height + 1} more lines", *lines[-3:]]


def _width() -> int:
    """That of the terminal; wide enough for every column when written to a file."""
    return shutil.get_terminal_size((220, 40)).columns
