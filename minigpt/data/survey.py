"""The first look at a source: how much text, its hash, its characters, and a sample to learn a vocabulary from.

What is written afterwards depends on it: where validation begins, and whether it has all been written before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from minigpt.data.document import Document

UNIT = 1 << 16  # characters of one piece of the sample
SAMPLE = 1 << 24
"""Characters that a vocabulary is learned from at least, where there are as many; at most twice that."""


@dataclass
class Survey:
    """documents: with text. empty: without. characters: of all. unended: documents that do not end with a newline.
    sha256: of texts and their order. alphabet: the characters that occur. sample: pieces of text spread evenly over
    the source, with the place each begins at."""

    documents: int = 0
    empty: int = 0
    characters: int = 0
    unended: int = 0
    sha256: str = ""
    alphabet: set[str] = field(default_factory=set)
    sample: list[tuple[int, str]] = field(default_factory=list)

    def sample_before(self, cut: int) -> list[str]:
        """The sample of the first ``cut`` characters: a vocabulary is not learned from validation text."""
        return [text[: cut - start] for start, text in self.sample if start < cut]


def survey(
    documents: Iterable[Document], *, alphabet: bool = False, sample: bool = False, seen: Callable[[int], None]
) -> Survey:
    """Read all documents once. alphabet, sample: whether to collect them. seen: is told of so many characters more."""
    found, digest, stride, unit = Survey(), Digest(), 1, 0
    for document in with_text(documents, found):
        text = document.text
        digest.add(text)
        if alphabet:
            found.alphabet.update(text)
        for start in range(0, len(text) if sample else 0, UNIT):
            if unit % stride == 0:
                found.sample.append((found.characters + start, text[start : start + UNIT]))
            unit += 1
            if len(found.sample) > 2 * SAMPLE // UNIT:
                found.sample, stride = found.sample[::2], 2 * stride
        found.characters += len(text)
        found.documents += document.ends
        found.unended += document.ends and not text.endswith("\n")
        seen(len(text))
    found.sha256 = digest.hexdigest()
    return found


def with_text(documents: Iterable[Document], found: Survey | None = None) -> Iterator[Document]:
    """The documents but for the empty ones, which are counted. An empty last part still ends its document."""
    inside = False
    for document in documents:
        if document.text or (inside and document.ends):
            yield document
        elif found is not None:
            found.empty += document.ends
        inside = not document.ends and (inside or bool(document.text))


class Digest:
    """The hash of texts in order; where one ends and the next begins is part of it."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()

    def add(self, text: str) -> None:
        content = text.encode("utf-8", "surrogatepass")
        self._sha256.update(b"%d\n" % len(content))
        self._sha256.update(content)

    def hexdigest(self) -> str:
        return self._sha256.hexdigest()
