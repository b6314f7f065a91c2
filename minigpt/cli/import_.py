"""Models of other projects in: ``minigpt import``."""

from __future__ import annotations

from minigpt.cli.entry import entry
from minigpt.exchange.config import ImportConfig


@entry("import", ImportConfig)
def main(config: ImportConfig) -> None:
    """Turn another project's model into a checkpoint, to sample from, to train on, to evaluate.

    {this} source=<Hugging Face folder> out=out/<name>
    """
    from minigpt.exchange.importing import import_

    import_(config)
