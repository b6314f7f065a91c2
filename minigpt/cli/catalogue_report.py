"""The catalogue as pages: ``minigpt report catalogue``, ``make docs``."""

from __future__ import annotations

from minigpt.cli.entry import entry
from minigpt.report.catalogue_pages import CatalogueConfig
from minigpt.screen import say


@entry("catalogue_report", CatalogueConfig)
def main(config: CatalogueConfig) -> None:
    """A Markdown page for every axis: its variants, what each costs at GPT-2's size, and what a study said of them.

    {this}                                    every axis, into docs/catalogue
    {this} results=[out/softmax]              keeps and shows what `train.py explorations=softmax` came to
    {this} axes=[softmax] out=mine plugins=[my_plugin]
    """
    from minigpt.report.catalogue_pages import write_pages

    files = write_pages(config)
    say(f"{len(files)} pages in {config.out}")
