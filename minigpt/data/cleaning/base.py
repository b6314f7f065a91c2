"""The clean axis: what a step of the cleaning may be, and what it says of a document that it drops."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from minigpt.registry import declare

declare("clean", default=None, scope="data")


class Dropped(NamedTuple):
    """Why a document goes. reason: of a kind, counted in the table. detail: of this one, shown with samples."""

    reason: str
    detail: str = ""


class Step:
    """Built as ``cls(config)``, in every worker process. A variant is one of the kinds below.

    What a step does follows from its options and the documents alone: the result is the same whoever does the work.
    """

    name: str


class Rewriter(Step):
    """Changes a text. One that comes out empty is dropped."""

    def rewrite(self, text: str) -> str:
        raise NotImplementedError


class Filter(Step):
    """Looks at one text and may drop it."""

    def judge(self, text: str) -> Dropped | None:
        raise NotImplementedError


class Comparison(Step):
    """Compares each document with those before it: :meth:`sketch` works in any process, :meth:`compare` in one, in the
    order of the documents, and only for those that no step before has dropped."""

    def sketch(self, text: str) -> bytes:
        """All that comparing needs to know of a text."""
        raise NotImplementedError

    def open(self, folder: Path) -> None:
        """Before the first comparison. folder: for files of its own, emptied afterwards."""

    def compare(self, sketch: bytes, origin: str) -> Dropped | None:
        """Remember a document, or drop it for one that is remembered."""
        raise NotImplementedError

    def close(self) -> None:
        """After the last comparison."""


class Leakage(Step):
    """Compares the documents of train with those of val, when it is known which are which; it is the last step.

    learn, judge_sketch: in one process, all of val before any of train.
    """

    def sketch(self, text: str) -> bytes:
        """All that comparing needs to know of a text."""
        raise NotImplementedError

    def learn(self, sketch: bytes) -> None:
        """Remember a document of val."""
        raise NotImplementedError

    def judge_sketch(self, sketch: bytes) -> Dropped | None:
        """Whether a document of train says too much of what val asks."""
        raise NotImplementedError
