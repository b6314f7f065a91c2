"""Sampling: ``minigpt sample``, ``python sample.py``."""

from __future__ import annotations

from minigpt.cli.entry import entry
from minigpt.generation.config import SampleConfig


@entry("sample", SampleConfig)
def main(config: SampleConfig) -> None:
    """Continue a prompt with a trained model.

    {this} checkpoint=out/<run> start="The "
    {this} checkpoint=out/<run> start=FILE:prompt.txt temperature=0 num_samples=3
    """
    from minigpt.generation.sample import sample

    sample(config)
