"""What runs cost on a machine: python analysis/ppa_report.py runs=out/<sweep> hardware=edge_16nm

Writes report.html, report.md, report.json and report.csv: quality beside energy, latency and area, for every variant
of a sweep.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a script finds its own folder only, not the repository

from minigpt import cli
from minigpt.errors import UserError
from minigpt.hardware import HardwareSpec
from minigpt.schema import PositiveInt, options

if TYPE_CHECKING:
    from analysis.ppa_rows import Report


@options
class PpaReportConfig:
    """Options of ``conf/ppa_report.yaml``, explained there."""

    runs: str
    hardware: HardwareSpec
    out: str | None = None
    context: PositiveInt | None = None
    batch: PositiveInt = 1
    baseline: str | None = None
    plugins: list[str] = ()  # type: ignore[assignment]


def write_report(config: PpaReportConfig) -> tuple[Report, Path]:
    """Price every variant below ``config.runs``, write the four files; returns the report and their folder."""
    from analysis import ppa_pages, ppa_rows, ppa_variants
    from minigpt.model import GPT, read_spec
    from minigpt.training.record import find_runs

    found_runs = find_runs(config.runs)
    if found_runs.unreadable:
        print(found_runs.complaint(), file=sys.stderr)
    groups, left_out = ppa_variants.grouped(found_runs.records)
    if not groups:
        seen = ", ".join(f"{row.run} ({row.status})" for row in left_out) or "no runs at all"
        raise UserError(f"runs: no completed run with a validation loss in {config.runs}; found {seen}")
    variants = []
    for name, runs in groups.items():
        spec = read_spec(runs[0].folder)
        model, context = GPT.on_meta(spec), config.context or spec.block_size
        variants.append(ppa_rows.priced(name, runs, model.cost, config.hardware, context, config.batch))
    found = ppa_rows.report(variants, left_out, config.hardware, config.batch, config.baseline)
    folder = Path(config.out) if config.out else Path(config.runs) / "ppa"
    ppa_pages.write(found, folder)
    return found, folder


@cli.entry("ppa_report", PpaReportConfig)
def main(config: PpaReportConfig) -> None:
    """Write, show the summary, and say where the rest is."""
    from analysis.ppa_pages import show

    report, folder = write_report(config)
    show(report)
    print(f"{folder}/report.html (and .md, .json, .csv)")


if __name__ == "__main__":
    main()
