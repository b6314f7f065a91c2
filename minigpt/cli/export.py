"""Models for other projects: ``minigpt export``."""

from __future__ import annotations

from minigpt.cli.entry import entry
from minigpt.exchange.config import ExportConfig


@entry("export", ExportConfig)
def main(config: ExportConfig) -> None:
    """Write a trained model in the form another project opens.

    {this} checkpoint=out/<run> format=hf out=<new folder>    for transformers, and what reads its files
    """
    from minigpt.exchange.exporting import export

    export(config)
