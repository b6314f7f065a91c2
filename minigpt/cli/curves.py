"""Curves of runs: ``minigpt report curves``, ``python analysis/curves_report.py``."""

from __future__ import annotations

from minigpt.cli.entry import entry
from minigpt.report.curves import CurvesConfig
from minigpt.screen import say


@entry("curves_report", CurvesConfig)
def main(config: CurvesConfig) -> None:
    """Losses, or any other figure, of the runs below a folder over steps, tokens or seconds: curves.html, .png, .csv
    and .json.

    {this} runs=out/<sweep>
    {this} runs=out/<sweep> x=tokens figures=[val_loss,lr] start=1e5
    {this} runs=out where="softmax=consmax and status=completed"
    """
    from minigpt.report.curves import write_report

    report, folder = write_report(config)
    for run, why in report.left_out:
        say(f"left out: {run}, {why}")
    hidden = f", {report.hidden} more not shown (limit={config.limit})" if report.hidden else ""
    say(f"{len(report.runs)} run{'s' * (len(report.runs) != 1)}{hidden}")
    say(f"{folder}/curves.html (and .png, .csv, .json)")
