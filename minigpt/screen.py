"""Text from elsewhere - names, reasons, overrides, paths - on its way out: to a terminal, a table, a CSV, Markdown.

Nothing in it may act on what it is shown in. Pages escape by their template engine.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_ACTING = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")  # Unicode's categories of what steers instead of showing
_SPECIAL_IN_MARKDOWN = re.compile(r"([\\`*\[\]|])")


def visible(value: object, *, lines: bool = False) -> str:
    """A text with every character that steers a terminal spelt out. lines: its line breaks stay."""
    text = str(value)
    if (text.replace("\n", "") if lines else text).isprintable():
        return text
    return "".join(c if (lines and c == "\n") or not _acts(c) else _spelt(c) for c in text)


def plain_text(value: object) -> Text:
    """A text for rich, in which brackets are no markup."""
    from rich.text import Text

    return Text(visible(value, lines=True))


def say(text: object, *, lines: bool = False, file: TextIO | None = None) -> None:
    """Print a text for a person, at once, and nothing in it acts. lines: its line breaks stay."""
    print(visible(text, lines=lines), file=file, flush=True)


def hand_out(text: str) -> None:
    """Write a text that a model made to stdout, at once: as it is, but nothing in it acts on a terminal."""
    if sys.stdout.isatty():
        text = readable(text)
    coding = sys.stdout.encoding or "utf-8"
    print(text.encode(coding, "backslashreplace").decode(coding), end="", flush=True)


def readable(text: str) -> str:
    """A text of several lines, tabs in them, with everything else that steers a terminal spelt out."""
    return "\t".join(visible(part, lines=True) for part in text.split("\t"))


def console(**options: Any) -> Console:
    """A rich console that raises BrokenPipeError as ``print`` does when its reader has gone, where rich would exit."""
    from rich.console import Console

    class Plain(Console):
        def on_broken_pipe(self) -> None:
            raise  # the error that is being handled

    return Plain(**options)


def csv_cell(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula; numbers stay numbers."""
    if not isinstance(value, str):
        return value
    shown = visible(value)
    return f"'{shown}" if shown[:1] in ("=", "+", "-", "@") else shown


def markdown(value: object) -> str:
    """A text within a line or a cell of Markdown: no tags, no links, no columns, no line breaks of its own."""
    text = " ".join(str(value).split("\n"))
    text = visible(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _SPECIAL_IN_MARKDOWN.sub(r"\\\1", text)


def _acts(character: str) -> bool:
    return unicodedata.category(character) in _ACTING


def _spelt(character: str) -> str:
    return character.encode("unicode_escape", "backslashreplace").decode()
