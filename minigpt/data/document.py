"""A document: one text as it came, on its way from a source through the cleaning steps to the tokenizer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Document:
    """text: all of it. origin: where it stood, for messages: a file, with line or row where it holds several.

    ends: False for all but the last part of a text too long to be held at once (more than four million characters),
    which comes as several in a row.
    """

    text: str
    origin: str
    ends: bool = True
