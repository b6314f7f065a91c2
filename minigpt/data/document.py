"""A document: one text as it came, on its way from a source through the cleaning steps to the tokenizer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Document:
    """text: all of it. origin: where it stood, for messages: a file, with line or row where it holds several."""

    text: str
    origin: str
