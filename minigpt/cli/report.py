"""What runs cost on a machine: ``minigpt report ppa``, ``python analysis/ppa_report.py``."""

from __future__ import annotations

from minigpt.cli.entry import entry
from minigpt.report.ppa import PpaReportConfig
from minigpt.screen import say


@entry("ppa_report", PpaReportConfig)
def main(config: PpaReportConfig) -> None:
    """What the runs below a folder cost on a machine, beside what they reach: report.html, .md, .json and .csv.

    {this} runs=out/<sweep> hardware=edge_16nm
    {this} runs=out/<sweep> hardware=h100_sxm hardware.memory.bandwidth_gb_s=4800 context=1024
    """
    from minigpt.report.ppa import write_report
    from minigpt.report.ppa_pages import show

    report, folder = write_report(config)
    show(report)
    say(f"{folder}/report.html (and .md, .json, .csv)")
