"""What the steps make of single documents: all that can be done without knowing the others, in any process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from minigpt.data.cleaning.base import Comparison, Dropped, Filter, Leakage, Rewriter, Step

EXCERPT = 400  # characters of a document that is shown as a sample


@dataclass
class Examined:
    """A document after the steps that it came to. text: what they made of it. sizes: its bytes before the first step
    and after each. dropped: why the last one drops it. changed: numbers of the steps that rewrote it. sketches,
    excerpts: by number of the step, of those that compare: whether they drop it is yet to be seen."""

    text: str
    sizes: list[int]
    dropped: Dropped | None = None
    changed: list[int] = field(default_factory=list)
    sketches: dict[int, bytes] = field(default_factory=dict)
    excerpts: dict[int, str] = field(default_factory=dict)


def examine(steps: Sequence[Step], text: str) -> Examined:
    """Take a text through the steps, up to the first that drops it."""
    found = Examined(text, [size_of(text)])
    for number, step in enumerate(steps):
        if isinstance(step, Rewriter):
            rewritten = step.rewrite(found.text)
            if rewritten != found.text:
                found.changed.append(number)
            found.sizes.append(size_of(rewritten) if rewritten != found.text else found.sizes[-1])
            if found.text and not rewritten.strip():
                found.dropped = Dropped("nothing is left of it")
            else:
                found.text = rewritten
        else:
            found.sizes.append(found.sizes[-1])
            if isinstance(step, Filter):
                found.dropped = step.judge(found.text)
            elif isinstance(step, Comparison | Leakage):
                found.sketches[number] = step.sketch(found.text)
                found.excerpts[number] = found.text[:EXCERPT]
        if found.dropped is not None:
            found.excerpts[number] = found.text[:EXCERPT]
            found.text = ""
            break
    return found


def size_of(text: str) -> int:
    """Bytes of UTF-8."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def packed(all_found: Sequence[Examined]) -> tuple[Any, bytes]:
    """Documents as plain data and bytes, for another process."""
    plain = [
        [
            found.text,
            found.sizes,
            found.dropped,
            found.changed,
            [[number, len(sketch)] for number, sketch in found.sketches.items()],
            list(found.excerpts.items()),
        ]
        for found in all_found
    ]
    return plain, b"".join(sketch for found in all_found for sketch in found.sketches.values())


def unpacked(plain: Any, content: bytes) -> list[Examined]:
    """Inverse of :func:`packed`."""
    place, all_found = 0, []
    for text, sizes, dropped, changed, lengths, excerpts in plain:
        found = Examined(text, sizes, None if dropped is None else Dropped(*dropped), changed)
        for number, length in lengths:
            found.sketches[number] = content[place : place + length]
            place += length
        found.excerpts = dict(excerpts)
        all_found.append(found)
    return all_found
