"""A PPA report as files: report.html, report.md, report.json, report.csv. Formatting only; the figures are made in
ppa_rows.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import sys
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from minigpt.files import plainly, write_text
from minigpt.hardware.pricing import AREA_FIELDS, ENERGY_FIELDS
from minigpt.report.numbers import count, number, percent
from minigpt.report.page import INK, drawing, render, svg_of
from minigpt.report.ppa_rows import Report, VariantRow
from minigpt.schema import plain
from minigpt.screen import console, csv_cell, plain_text

LABELS = {
    "dram_weights_mj": "DRAM, weights",
    "dram_cache_mj": "DRAM, cache",
    "dram_activations_mj": "DRAM, activations",
    "sram_mj": "SRAM",
    "leakage_mj": "leakage",
    "arithmetic_mj": "matrix arithmetic",
    "control_mj": "control",
    "vector_mj": "vector lanes",
    "special_mj": "special units",
    "sram_mm2": "SRAM",
    "array_mm2": "matrix array",
    "vector_mm2": "vector lanes",
    "special_mm2": "special units",
    "phy_mm2": "PHY and pads",
    "other_mm2": "rest of the die",
}


def write(report: Report, folder: Path) -> None:
    """Write the four files; each one whole or not at all."""
    with plainly(folder, "made", " Choose another place: out=<folder>"):
        folder.mkdir(parents=True, exist_ok=True)
    pages = {"report.json": as_json, "report.csv": as_csv, "report.md": as_markdown, "report.html": as_html}
    for name, page in pages.items():
        write_text(folder / name, page(report))


def show(report: Report) -> None:
    """Print the summary for a terminal: what each variant is worth, and what it costs."""
    from rich.table import Table

    table = Table("variant", title=f"on {report.hardware.name}, context {_contexts(report)}")
    heads = ("val loss", "bits/byte", "params", "FLOPs/token", "KV bytes/token", "mJ/token", "ms/token", "mm2")
    for head in heads:
        table.add_column(head, justify="right")
    for row in report.rows:
        loss = number(row.val_loss) + (f" +- {row.val_loss_std:.4f}" if row.val_loss_std is not None else "")
        counts = map(count, (row.parameters, row.flops_per_token, row.kv_bytes_per_token))
        costs = map(number, (row.energy_mj, row.latency_ms, row.area_mm2))
        style = "bold" if row.pareto else None
        table.add_row(plain_text(row.variant), loss, number(row.bits_per_byte), *counts, *costs, style=style)
    screen = console(width=None if sys.stdout.isatty() else 130)
    screen.print(table)
    for run in report.left_out:
        screen.print(plain_text(f"left out: {run.run}, {run.status}: {run.reason}".rstrip(": ")), style="dim")
    screen.print("bold: no other variant has both a lower loss and a lower energy", style="dim", highlight=False)


def _contexts(report: Report) -> str:
    return ", ".join(str(context) for context in sorted({row.context for row in report.rows}))


def as_json(report: Report) -> str:
    """Every row, with full precision."""
    content = {field.name: plain(getattr(report, field.name)) for field in dataclasses.fields(report)}
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def as_csv(report: Report) -> str:
    """The summary rows, with full precision; an unknown value is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [field.name for field in dataclasses.fields(VariantRow)]
    writer.writerow(names)
    writer.writerows([csv_cell(getattr(row, name)) for name in names] for row in report.rows)
    return text.getvalue()


def as_markdown(report: Report) -> str:
    """Summary, breakdown, what is unverified: for a pull request or a terminal."""
    return _render("ppa_report.md.j2", report)


def as_html(report: Report) -> str:
    """One self-contained page: nothing is fetched, light or dark as the reader's system is."""
    return _render("ppa_report.html.j2", report, plot=pareto_svg(report))


def _render(template: str, report: Report, **more: Any) -> str:
    return render(
        template,
        {"data": data, "cell": cell},
        report=report,
        machine=report.hardware,
        contexts=_contexts(report),
        energy_fields=sorted(ENERGY_FIELDS, key=list(LABELS).index),
        area_fields=sorted(AREA_FIELDS, key=list(LABELS).index),
        labels=LABELS,
        most_energy=max(row.energy_mj for row in report.rows),
        most_area=max(row.area_mm2 for row in report.rows),
        settings=settings(plain(report.hardware)),
        unverified=[a.name for a in report.assumptions if not a.verified],
        **more,
    )


def data(value: Any) -> str:
    """A value in full precision, for a data attribute: the same text as in the CSV."""
    return "" if value is None else str(value)


def cell(row: Any, name: str, style: str = "number", label: str = "") -> Any:
    """One table cell: what a reader sees, and the exact value beside it. label: of a table that is cards on a narrow
    screen."""
    import markupsafe

    value = getattr(row, name)
    formats: dict[str, Callable[[Any], str]] = {"number": number, "count": count, "percent": percent, "text": str}
    shown = formats[style](value)
    labelled = markupsafe.Markup(' data-label="{}"').format(label) if label else ""
    return markupsafe.Markup('<td class="{}"{} data-field="{}" data-value="{}">{}</td>').format(
        "text" if style == "text" else "figure", labelled, name, data(value), shown
    )


def settings(node: Mapping[str, Any], path: str = "") -> list[tuple[str, str]]:
    """Every setting of the machine as (path, value), constants left to their own table."""
    found = []
    for key, value in node.items():
        where = f"{path}.{key}" if path else key
        if isinstance(value, Mapping):
            found += settings(value, where) if where != "constants" else []
        else:
            found.append((where, "none" if value is None else str(value)))
    return found


def pareto_svg(report: Report) -> str:
    """Validation loss against energy per token as inline SVG; variants that none beats in both are joined by a line."""
    from matplotlib import pyplot

    with drawing(INK):
        figure, axes = pyplot.subplots(figsize=(8.4, 4.6))
        front = sorted((row for row in report.rows if row.pareto), key=lambda row: row.energy_mj)
        axes.plot(
            [row.energy_mj for row in front], [row.val_loss for row in front],
            drawstyle="steps-post", color="#2f7d6d", linewidth=1.5, alpha=0.7, zorder=1,
        )  # fmt: skip
        for row in report.rows:
            colour = "#2f7d6d" if row.pareto else "#b4643c"
            axes.hlines(row.val_loss, row.energy_low_mj, row.energy_high_mj, color=colour, linewidth=3, alpha=0.18)
            axes.errorbar(
                row.energy_mj, row.val_loss, yerr=row.val_loss_std, color=colour, ecolor=colour, elinewidth=1, zorder=3,
                capsize=3, marker="o" if row.pareto else "D", markersize=8 if row.pareto else 6,
                markerfacecolor=colour if row.pareto else "none",
            )  # fmt: skip
        _label_points(axes, report.rows)
        axes.ticklabel_format(useOffset=False)
        axes.margins(0.12)
        axes.set_xlabel("energy per decoded token, mJ (pale: the range of its constants)")
        axes.set_ylabel("validation loss, nats per token")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.18, color=INK, linewidth=0.6)
        figure.tight_layout()
        return svg_of(figure)


def _label_points(axes: Any, rows: tuple[VariantRow, ...]) -> None:
    """Names beside the points, the ones right of the middle to the left, below a point that has another close above it;
    in a crowd only the front is named.

    A long name is broken into lines, then cut: the tables have it whole.
    """
    middle = (min(r.energy_mj for r in rows) + max(r.energy_mj for r in rows)) / 2
    losses = [row.val_loss for row in rows if row.val_loss is not None]
    close = 0.1 * (max(losses) - min(losses))
    for row in rows:
        if len(rows) > 12 and not row.pareto:
            continue
        left = row.energy_mj > middle
        below = any(0 < loss - row.val_loss < close for loss in losses)
        axes.annotate(
            _in_lines(row.variant), (row.energy_mj, row.val_loss), textcoords="offset points", parse_math=False,
            xytext=(-10 if left else 10, -7 if below else 7), fontsize=10,
            ha="right" if left else "left", va="top" if below else "bottom",
        )  # fmt: skip


def _in_lines(name: str) -> str:
    return textwrap.fill(name, 30, max_lines=3, placeholder=" ...")
