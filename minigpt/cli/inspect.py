"""What was trained: ``minigpt inspect``, ``python analysis/checkpoint_analysis/inspect_ckpts.py``."""

from __future__ import annotations

from minigpt.cli.entry import entry
from minigpt.report.inspection import InspectConfig, inspect


@entry("inspect", InspectConfig, first="directory")
def main(config: InspectConfig) -> None:
    """What was trained, in a table; or one checkpoint, tensor by tensor.

    {this} --directory out --sort loss            all runs and checkpoints below a folder
    {this} out/<sweep> --where "val_loss<2.3"     a first word is the folder
    {this} --path out/<run>                       one checkpoint
    """
    inspect(config)
