"""A report of curves as files: curves.html, curves.png, curves.json, curves.csv. Formatting only."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from minigpt.files import plainly, replacing, write_text
from minigpt.report.curves import Curve, CurvesReport
from minigpt.report.numbers import number
from minigpt.report.page import INK, drawing, render, svg_of
from minigpt.screen import csv_cell, visible

COLOURS = ("#2f7d6d", "#b4643c", "#3b6ea8", "#c39a2b", "#7b3f55", "#6a8f3a", "#8d6fb0", "#5b7d86")
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)))
_UNSOUND = ("diverged", "failed")
POINTS = 1500  # of a line in a picture; more are thinner than a pixel
NAMES = {
    "val_loss": "validation loss, nats per token", "train_loss": "training loss, nats per token",
    "bits_per_byte": "validation, bits per byte", "lr": "learning rate", "grad_norm": "gradient norm",
    "tokens_per_second": "tokens per second",
}  # fmt: skip


def write(report: CurvesReport, folder: Path) -> None:
    """Write the four files; each one whole or not at all."""
    with plainly(folder, "made", " Choose another place: out=<folder>"):
        folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "curves.json", as_json(report))
    write_text(folder / "curves.csv", as_csv(report))
    write_text(folder / "curves.html", as_html(report))
    with plainly(folder / "curves.png"), replacing(folder / "curves.png") as temporary:
        temporary.write_bytes(as_png(report))


def as_json(report: CurvesReport) -> str:
    """Every point, with full precision."""
    return json.dumps(dataclasses.asdict(report), indent=1, allow_nan=False) + "\n"


def as_csv(report: CurvesReport) -> str:
    """One row a point: run, what tells it from the others, figure, x, value, mean with its neighbours."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["run", "label", "figure", report.x, "value", "smooth"])
    for run in report.runs:
        for figure, curve in run.curves.items():
            head = [csv_cell(run.run), csv_cell(run.label), csv_cell(figure)]
            writer.writerows([*head, *point] for point in zip(curve.x, curve.y, curve.smooth, strict=True))
    return text.getvalue()


def as_html(report: CurvesReport) -> str:
    """One self-contained page: nothing is fetched, light or dark as the reader's system is."""
    panels = [(_title(figure), _svg(report, figure)) for figure in report.figures]
    lines = [(style(i), run, _finals(report, i)) for i, run in enumerate(report.runs)]
    return render("curves.html.j2", report=report, panels=panels, lines=lines, titles=list(map(_title, report.figures)))


def as_png(report: CurvesReport) -> bytes:
    """All panels below each other, with a legend, for a slide or an issue."""
    from matplotlib import pyplot

    with drawing("#1d1f21"):
        count = len(report.figures)
        legend = 0.24 * len(report.runs) + 0.4
        figure, axes = pyplot.subplots(
            count, 1, figsize=(8.4, 3.9 * count + legend), squeeze=False, layout="constrained"
        )
        for each, name in zip(axes[:, 0], report.figures, strict=True):
            _draw(each, report, name)
        handles, labels = axes[0, 0].get_legend_handles_labels()
        shown = [_cut(label) for label in labels]
        for handle in handles:
            handle.set_label("_")
        figure.legend(handles, shown, loc="outside lower left", frameon=False, fontsize=10, ncols=1)
        stream = io.BytesIO()
        figure.savefig(stream, format="png", dpi=150, facecolor="#fbfaf7", metadata={"Software": None})
        pyplot.close(figure)
    return stream.getvalue()


def style(i: int) -> dict[str, Any]:
    """Colour and dashes of a run: the same in every panel, and told apart without colour, too, from the ninth on."""
    return {"color": COLOURS[i % len(COLOURS)], "linestyle": DASHES[i // len(COLOURS) % len(DASHES)]}


def _svg(report: CurvesReport, figure: str) -> str:
    from matplotlib import pyplot

    with drawing(INK):
        picture, axes = pyplot.subplots(figsize=(8.4, 4.2))
        _draw(axes, report, figure)
        picture.tight_layout()
        text = svg_of(picture)
    return text


def _draw(axes: Any, report: CurvesReport, figure: str) -> None:
    for i, run in enumerate(report.runs):
        curve = run.curves.get(figure)
        if curve is None:
            axes.plot([], [], label=run.label, **style(i))  # its place in the legend
            continue
        x, y, smooth = _thinned(curve)
        if smooth != y:
            axes.plot(x, y, linewidth=0.8, alpha=0.25, label="_", color=style(i)["color"])
        marker = "o" if len(x) <= 25 else None
        axes.plot(x, smooth, linewidth=1.6, marker=marker, markersize=3.5, label=run.label, **style(i))
    _scale(axes, report, figure)
    if report.log:
        axes.set_yscale("log")
    else:
        axes.ticklabel_format(axis="y", useOffset=False)
    axes.xaxis.set_major_formatter(lambda value, _: _tick(value))
    axes.set_xlabel({"steps": "steps", "tokens": "training tokens", "seconds": "seconds of training"}[report.x])
    axes.set_ylabel(_title(figure))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.18, linewidth=0.6)


def _scale(axes: Any, report: CurvesReport, figure: str) -> None:
    """A run that diverged does not set the scale for the others."""
    sound = [run.curves[figure] for run in report.runs if figure in run.curves and run.status not in _UNSOUND]
    if 0 < len(sound) < len(report.runs):
        low, high = min(min(c.y) for c in sound), max(max(c.y) for c in sound)
        if low < high:
            margin = 0 if report.log else 0.05 * (high - low)
            axes.set_ylim(low - margin, high + margin)


def _thinned(curve: Curve) -> tuple[Sequence[float], Sequence[float], Sequence[float]]:
    """As many points as a picture can show, first and last among them."""
    every = -(-len(curve.x) // POINTS)
    kept = sorted({*range(0, len(curve.x), every), len(curve.x) - 1})
    return tuple(tuple(values[i] for i in kept) for values in (curve.x, curve.y, curve.smooth))  # type: ignore[return-value]


def _finals(report: CurvesReport, i: int) -> list[tuple[str, str, str]]:
    """(figure, last value, lowest) of a run, as shown."""
    found = []
    for figure in report.figures:
        curve = report.runs[i].curves.get(figure)
        last, lowest = (number(None), "") if curve is None else (number(curve.smooth[-1], 5), number(min(curve.y), 5))
        found.append((_title(figure).partition(",")[0], last, lowest))
    return found


def _title(figure: str) -> str:
    return NAMES.get(figure) or visible(figure)


def _tick(value: float) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g} {unit}"
    return f"{value:g}"


def _cut(label: str) -> str:
    shown = visible(label)
    return shown if len(shown) <= 100 else f"{shown[:97]}..."
