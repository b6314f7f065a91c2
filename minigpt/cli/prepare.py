"""Data: ``minigpt prepare``, ``python data/prepare.py``."""

from __future__ import annotations

from minigpt.cli.entry import entry
from minigpt.data.preparation import PrepareConfig


@entry("prepare", PrepareConfig, first="dataset")
def main(config: PrepareConfig) -> None:
    """Turn text into a dataset for training.

    {this} dataset=pydocs                               a recipe of the project: pydocs, shakespeare_char, template
    {this} source=<file, folder or glob> name=<new>     text of your own
    """
    from minigpt.data.preparation import prepare

    prepare(config)
