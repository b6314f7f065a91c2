"""Text from elsewhere does nothing to what it is shown in."""

from __future__ import annotations

import pytest
from rich.console import Console

from minigpt.screen import csv_cell, markdown, plain_text, visible


@pytest.mark.parametrize("text", ["\x1b[31mred", "a\x07", "a\rb", "\x9b2J", "a\u202eb", "\ud800", "a\u2028b", "\0"])
def test_what_steers_a_terminal_is_spelt_out(text):
    assert visible(text).isprintable()
    assert len(visible(text)) > len(text)


def test_other_text_stays_as_it_is():
    for text in ("norm=dyt", "ü 日本 [bold] \\", "loss is <nan>"):
        assert visible(text) == text
    assert visible("a\nb", lines=True) == "a\nb"
    assert visible("a\nb") == "a\\nb"


def test_brackets_are_no_markup():
    console = Console(width=80, force_terminal=False)
    with console.capture() as captured:
        console.print(plain_text("[bold]x[/nope]"))
    assert captured.get() == "[bold]x[/nope]\n"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "=HYPERLINK(1)"])
def test_no_cell_of_text_is_a_formula(text):
    assert csv_cell(text) == f"'{text}"
    assert csv_cell(-1.5) == -1.5
    assert csv_cell("norm=dyt") == "norm=dyt"


def test_markdown_has_no_tags_columns_or_links_of_its_own():
    assert markdown("<img src=x>|`a`[b](c)\n# d") == "&lt;img src=x&gt;\\|\\`a\\`\\[b\\](c) # d"
