"""What is said while thousands of points or records are gone through."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from minigpt.screen import say

T = TypeVar("T")
_SILENCE_SECONDS = 2.0


def counted(items: Iterable[T], of: int, what: str) -> Iterator[T]:
    """The items; every other second a line says how many there have been, so that no long work is silent."""
    said = time.monotonic()
    for number, item in enumerate(items):
        if time.monotonic() - said > _SILENCE_SECONDS:
            said = time.monotonic()
            say(f"{number:,} of {of:,} {what}")
        yield item
