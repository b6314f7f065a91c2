"""Curves of runs: what metrics.jsonl has of the chosen ones, over steps, tokens or seconds, one panel a figure."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from minigpt.errors import UserError, unknown
from minigpt.report import columns
from minigpt.report.columns import differences, short_keys
from minigpt.report.listing import Entry, Listing
from minigpt.schema import NonNegativeFloat, PositiveInt, Probability, options
from minigpt.training.metrics import read_metrics

_AXES = {"steps": "step", "tokens": "tokens", "seconds": "seconds"}
_EXACT = ("val_loss", "bits_per_byte", "lr")
"""Beginnings of figures that are no sample of anything: they are drawn as they are."""


@options
class CurvesConfig:
    """What to draw.

    runs: a folder with run folders at any depth, or one run. out: where the report goes (None: <runs>/curves). where:
    only runs that meet every condition, as in inspect: "softmax=consmax and steps>100". x: of every panel. figures: one
    panel each: val_loss, train_loss, or any other name of metrics.jsonl, such as lr or grad_norm. smoothing: of figures
    that are measured on single batches: by what factor a value counts less in the mean with every line it is away (0:
    no smoothing); the figure itself is drawn pale. start: what x is drawn from, so that the first steps do not set the
    scale. limit: so many runs, the lowest validation loss first. log: a logarithmic scale for the figures.
    """

    runs: str
    out: str | None = None
    where: str | None = None
    x: Literal["steps", "tokens", "seconds"] = "steps"
    figures: list[str] = ("val_loss", "train_loss")  # type: ignore[assignment]
    smoothing: Probability = 0.6
    start: NonNegativeFloat = 0.0
    limit: PositiveInt = 12
    log: bool = False


@dataclasses.dataclass(frozen=True)
class Curve:
    """One figure of one run. x, y: as measured, finite, in order. smooth: y's mean with its neighbours; y itself for a
    figure that is not smoothed."""

    figure: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    smooth: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class RunCurves:
    """A run with its curves, by figure. label: what tells it from the others."""

    label: str
    run: str
    status: str
    reason: str
    curves: dict[str, Curve]


@dataclasses.dataclass(frozen=True)
class CurvesReport:
    """Everything a report says. hidden: runs beyond the limit. left_out: (run, why) of those with nothing to draw."""

    x: str
    figures: tuple[str, ...]
    smoothing: float
    log: bool
    runs: tuple[RunCurves, ...]
    hidden: int
    left_out: tuple[tuple[str, str], ...]


def read_curves(config: CurvesConfig) -> CurvesReport:
    """The curves of the runs that are asked for. Raises UserError when there are none, or none has such a figure."""
    figures = tuple(dict.fromkeys(config.figures))
    if not figures:
        raise UserError("figures: expected at least one, such as [val_loss,train_loss]")
    folder = Path(config.runs)
    if not folder.is_dir():
        raise UserError(f"runs: {folder}: no such folder. Expected a run's, or one with runs below it")
    found = Listing(folder).entries()
    left_out = [(e.name, e.reason) for e in found if e.kind == "unreadable" and e.path.is_dir()]
    runs = [e for e in found if e.kind == "run"]
    asked = columns.conditions(config.where, runs) if config.where and runs else []
    kept = columns.ordered([e for e in runs if all(c.holds(e) for c in asked)], "val_loss")
    if not kept:
        met = f" that meets where={config.where}" if config.where and runs else ""
        raise UserError(f"runs: {folder}: no run{met} in it")
    shown = kept[: config.limit]
    drawn = []
    names: set[str] = set()
    for label, entry in zip(_labels(shown), shown, strict=True):
        lines = read_metrics(entry.path)
        names |= {key for line in lines for key, value in line.items() if _is_number(value)}
        curves = {f: curve for f in figures if (curve := _curve(lines, f, config)) is not None}
        if curves:
            drawn.append(RunCurves(label, entry.name, entry.status, entry.reason, curves))
        else:
            left_out.append((entry.name, f"no {', '.join(figures)} in its metrics.jsonl"))
    if not drawn:
        choices = names - set(_AXES.values())
        started = f" from {config.x}={config.start:g} on" if config.start else ""
        if missing := [figure for figure in figures if figure not in choices]:
            raise unknown("figures", missing[0], "no run has the figure", choices)
        raise UserError(f"start: no run has anything{started}")
    return CurvesReport(
        x=config.x, figures=tuple(f for f in figures if any(f in run.curves for run in drawn)), log=config.log,
        smoothing=config.smoothing, runs=tuple(drawn), hidden=len(kept) - len(shown), left_out=tuple(left_out),
    )  # fmt: skip


def write_report(config: CurvesConfig) -> tuple[CurvesReport, Path]:
    """Read the curves and write the four files; returns what they say and their folder."""
    from minigpt.report import curves_pages

    found = read_curves(config)
    folder = Path(config.out) if config.out else Path(config.runs) / "curves"
    curves_pages.write(found, folder)
    return found, folder


def _curve(lines: Sequence[dict[str, object]], figure: str, config: CurvesConfig) -> Curve | None:
    key = _AXES[config.x]
    points = [
        (float(line[key]), float(line[figure]))  # type: ignore[arg-type]
        for line in lines
        if key in line and figure in line and _is_number(line[key]) and _is_number(line[figure])
    ]
    kept = [(x, y) for x, y in points if x >= config.start and (y > 0 or not config.log)]
    if not kept:
        return None
    x, y = zip(*kept, strict=True)
    return Curve(figure, x, y, y if figure.startswith(_EXACT) else smoothed(y, config.smoothing))


def smoothed(values: Sequence[float], weight: float) -> tuple[float, ...]:
    """The mean of what is around each value, which counts ``weight`` times less with every place it is away.

    Looking both ways it does not lag behind a curve that falls.
    """

    def past(given: Sequence[float]) -> list[float]:
        mean, total, found = 0.0, 0.0, []
        for value in given:
            mean, total = weight * mean + value, weight * total + 1
            found.append(mean / total)
        return found

    before, after = past(values), past(values[::-1])[::-1]
    return tuple((a + b) / 2 for a, b in zip(before, after, strict=True))


def _labels(entries: Sequence[Entry]) -> list[str]:
    """What tells each run from the others; its name where that is nothing, or not enough."""
    found = differences(entries)
    short = short_keys(found)
    labels = [", ".join(columns.said(short[key], value) for key, value in each.items()) for each in found]
    unclear = [not label or labels.count(label) > 1 for label in labels]
    return [
        (f"{label} ({e.name})" if label else e.name) if vague else label
        for e, label, vague in zip(entries, labels, unclear, strict=True)
    ]


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
