"""The PPA report of the runs below a folder: quality beside energy, latency and area, for every variant of a sweep."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from minigpt.errors import UserError
from minigpt.hardware import HardwareSpec
from minigpt.schema import PositiveInt, options
from minigpt.screen import say

if TYPE_CHECKING:
    from minigpt.model import GPT
    from minigpt.report.ppa_rows import Report


@options
class PpaReportConfig:
    """What to report.

    runs: a folder with run folders at any depth, or one run. hardware: fields of conf/hardware/<name>.yaml, explained
    there. out: where the report goes (None: <runs>/ppa). context: keys a decode step sees (None: each model's
    block_size). batch: sequences decoded together. baseline: variant or run the ratios are to (None: the first).
    plugins: modules that register parts of the models.
    """

    runs: str
    hardware: HardwareSpec
    out: str | None = None
    context: PositiveInt | None = None
    batch: PositiveInt = 1
    baseline: str | None = None
    plugins: list[str] = ()  # type: ignore[assignment]


def write_report(config: PpaReportConfig) -> tuple[Report, Path]:
    """Price every variant below ``config.runs``, write the four files; returns the report and their folder."""
    from minigpt.model import GPT, read_spec
    from minigpt.report import ppa_pages, ppa_rows, ppa_variants
    from minigpt.training.record import find_runs

    found_runs = find_runs(config.runs)
    if found_runs.unreadable:
        say(found_runs.complaint(), lines=True, file=sys.stderr)
    groups, left_out = ppa_variants.grouped(found_runs.records)
    variants = []
    for name, runs in groups.items():
        try:
            model = GPT.on_meta(read_spec(runs[0].folder))
        except UserError as error:  # a plugin that is not given, a file of a stranger: the others are reported
            left_out += [ppa_variants.left(run, name, str(error)) for run in runs]
            continue
        context = context_of(model, config.context)
        variants.append(ppa_rows.priced(name, runs, model.cost, config.hardware, context, config.batch))
    if not variants:
        seen = ", ".join(f"{row.run} ({row.status}{row.reason and ': ' + row.reason})" for row in left_out[:3])
        seen = seen or "no runs at all"
        raise UserError(f"runs: no completed run with a validation loss in {config.runs}; found {seen}")
    found = ppa_rows.report(variants, left_out, config.hardware, config.batch, config.baseline)
    folder = Path(config.out) if config.out else Path(config.runs) / "ppa"
    ppa_pages.write(found, folder)
    return found, folder


def context_of(model: GPT, context: int | None) -> int:
    """The context to price a model at. Raises UserError for one beyond the positions it has learned."""
    longest = model.spec.block_size
    if context is None or context <= longest:
        return context or longest
    for part in model.modules():
        if getattr(part, "axis", "") == "position" and any(len(p) == longest for p in part.parameters()):
            raise UserError(
                f"context: {context} is more than the {longest} positions that position={part.name} has learned. "
                f"Take context={longest}"
            )
    return context
