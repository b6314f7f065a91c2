"""What was trained: ``minigpt inspect``, ``python analysis/checkpoint_analysis/inspect_ckpts.py``."""

from __future__ import annotations

from minigpt.cli.entry import entry
from minigpt.report.inspection import InspectConfig, inspect


@entry("inspect", InspectConfig)
def main(config: InspectConfig) -> None:
    """What was trained, in a table; or one checkpoint, tensor by tensor.

    {this} --directory out --sort loss    all runs below a folder
    {this} --path out/<run>               one checkpoint
    """
    inspect(config)
