"""Text from elsewhere does nothing to what it is shown in."""

from __future__ import annotations

import ast
import io
import os
from pathlib import Path

import pytest
from rich.console import Console

import minigpt
from minigpt.screen import console, csv_cell, hand_out, markdown, plain_text, say, visible

SOURCE = Path(minigpt.__file__).parent


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


def test_what_is_said_acts_on_nothing(capsys):
    say("a\x1b[2J\nb")
    say("a\x1b\nb", lines=True)
    assert capsys.readouterr().out == "a\\x1b[2J\\nb\na\\x1b\nb\n"


def test_no_module_prints_past_the_screen():
    """``print`` is for a page, JSON, generated text, and what was made visible already."""
    raw = {
        (file.relative_to(SOURCE).as_posix(), ast.unparse(node))
        for file in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "Console", "sys.stdout.write")
    }
    kept = ("print(json.dumps(", "print(visible(", "print(_page())", "print(help_page(", "print(version())")
    allowed = ("screen.py", "generation/sample.py")
    left = {(file, call) for file, call in raw if file not in allowed and not call.startswith(kept)}
    assert left == {("cli/train.py", "print(summary(record))")}


def test_a_console_whose_reader_has_gone_raises_as_print_does():
    read, write = os.pipe()
    os.close(read)
    stream = os.fdopen(write, "w")
    with pytest.raises(BrokenPipeError):
        console(file=stream).print("x")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, write)  # for what is left in the stream
    os.close(nowhere)
    stream.close()


def test_what_a_model_wrote_acts_on_no_terminal_and_is_whole_elsewhere(capsys, monkeypatch):
    hand_out("a\x1b[2J\tb\n日")
    assert capsys.readouterr().out == "a\x1b[2J\tb\n日"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    hand_out("a\x1b[2J\tb\n")
    assert capsys.readouterr().out == "a\\x1b[2J\tb\n"


def test_a_screen_that_lacks_a_letter_gets_it_spelt_out(monkeypatch):
    narrow = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", narrow)
    hand_out("é日\ud800")
    narrow.flush()
    assert narrow.buffer.getvalue() == b"\\xe9\\u65e5\\ud800"
