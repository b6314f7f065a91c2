"""Documents on their way through a file: written once, read as often as they are needed."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Container, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from minigpt.data.document import Document

_HEAD = struct.Struct("<II?")


class Spool:
    """The documents that were added, in their order. lengths: characters of each. unended: of each, whether it ends
    without a newline."""

    def __init__(self, file: Path):
        self.file = file
        self.lengths, self.unended = array("Q"), bytearray()
        self._out = file.open("wb", buffering=1 << 20)

    def __len__(self) -> int:
        return len(self.lengths)

    def add(self, document: Document) -> None:
        text = document.text.encode("utf-8", "surrogatepass")
        origin = document.origin.encode("utf-8", "surrogatepass")
        self._out.write(_HEAD.pack(len(text), len(origin), document.ends))
        self._out.write(text)
        self._out.write(origin)
        self.lengths.append(len(document.text))
        self.unended.append(document.ends and not document.text.endswith("\n"))

    def close(self) -> None:
        """Nothing more comes."""
        self._out.close()

    def documents(self, without: Container[int] = ()) -> Iterator[Document]:
        """From the beginning, but for those of some numbers."""
        return whole((document, number not in without) for number, document in enumerate(self._all()))

    def _all(self) -> Iterator[Document]:
        with self.file.open("rb", buffering=1 << 20) as stream:
            while head := stream.read(_HEAD.size):
                text, origin, ends = _HEAD.unpack(head)
                yield Document(
                    stream.read(text).decode("utf-8", "surrogatepass"),
                    stream.read(origin).decode("utf-8", "surrogatepass"),
                    ends,
                )


def whole(judged: Iterable[tuple[Document, bool]]) -> Iterator[Document]:
    """Those of (document, whether it is kept) that are. A part that goes on in the next one ends its document when the
    rest of that is not kept."""
    waiting: Document | None = None
    for document, kept in judged:
        if kept:
            if waiting is not None:
                yield waiting
            waiting = document
        elif document.ends and waiting is not None and not waiting.ends:
            waiting = replace(waiting, ends=True)
    if waiting is not None:
        yield waiting
