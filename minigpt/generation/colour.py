"""Text coloured by what the model thinks of its tokens: 24-bit colours, 256, or marks where there are none.

The scale goes from pale (the model expected it) to dark red (it did not); every colour brings its own colour of
letters, so that it can be read on any terminal, and its lightness falls all the way, for eyes that see few colours.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Literal, TextIO

from minigpt.generation.config import Kind
from minigpt.generation.growing import Piece
from minigpt.generation.scoring import Scores

Depth = Literal["24bit", "256", "marks"]

SCALE = ((255, 255, 217), (254, 217, 118), (253, 141, 60), (227, 26, 28), (128, 0, 38))
"""The colours of levels 0 to 4 (YlOrRd of ColorBrewer, Brewer 2003); between them they are mixed."""
HEAT = ((247, 251, 255), (198, 219, 239), (107, 174, 214), (33, 113, 181), (8, 48, 107))
"""The colours of a probability between 0 and 1 in a heatmap (Blues, of the same source)."""
LEVELS = {
    "probability": ("1", "0.32", "0.1", "0.03", "0.01 or less"),
    "rank": ("1", "3", "10", "32", "100 or more"),
    "entropy": ("0 bits", "1.5", "3", "4.5", "6 or more"),
}
"""What levels 0 to 4 stand for; probability and rank fall and rise by the logarithm."""
_RESET = "\x1b[0m"


def depth_of(stream: TextIO, environment: Mapping[str, str] = os.environ) -> Depth:
    """The colours that a stream shows: what its terminal says of itself, marks where it is none.

    NO_COLOR (no-color.org), if not empty, forbids colours; FORCE_COLOR has them where there is no terminal.
    """
    if environment.get("NO_COLOR") or not (stream.isatty() or environment.get("FORCE_COLOR")):
        return "marks"
    term = environment.get("TERM", "")
    if environment.get("COLORTERM") in ("truecolor", "24bit") or term.endswith("-direct"):
        return "24bit"
    return "256" if "256" in term else "marks"


def level(kind: Kind, scores: Scores, first: int, last: int) -> float:
    """Where a piece of text stands on the scale, 0 to 4: the least expected of its tokens ``first`` to ``last`` - 1."""
    if kind == "probability":
        found = max(-2 * logprob / math.log(10) for logprob in scores.logprob[first:last].tolist())
    elif kind == "rank":
        found = max(2 * math.log10(rank) for rank in scores.rank[first:last].tolist())
    else:
        found = max(bits / 1.5 for bits in scores.entropy[first:last].tolist())
    return min(max(found, 0.0), 4.0) if math.isfinite(found) else 4.0


def mixed(place: float, scale: tuple[tuple[int, int, int], ...] = SCALE) -> tuple[int, int, int]:
    """The colour at a level between 0 and 4."""
    below = min(int(place), 3)
    share = place - below
    low, high = scale[below], scale[below + 1]
    return tuple(round((1 - share) * a + share * b) for a, b in zip(low, high, strict=True))  # type: ignore[return-value]


def letters_on(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    """Black or white, whichever reads better on a colour."""
    red, green, blue = ((c / 255) ** 2.2 for c in colour)
    return (0, 0, 0) if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.18 else (255, 255, 255)


class Painter:
    """Paints a text piece by piece; with marks, ``[2|at]`` is a piece of level 2, and what has no mark is of level 0.

    A colour lasts until the next begins, or the line ends: a line break shows its own as one cell before it.
    """

    def __init__(self, kind: Kind, depth: Depth):
        self.kind, self.depth = kind, depth
        self._on = ""

    def legend(self) -> str:
        """One line about the scale."""
        if self.depth == "marks":
            shown = [f"[{place}|{words}]" if place else f"{words}" for place, words in enumerate(LEVELS[self.kind])]
            return f"{self.kind} of each token: {'  '.join(shown)}"
        shown = [f"{self._code(place)} {words} {_RESET}" for place, words in enumerate(LEVELS[self.kind])]
        return f"{self.kind} of each token: {' '.join(shown)}"

    def paint(self, text: str, place: float | None) -> str:
        """A piece at a level; None: of a text that is not scored."""
        code = "" if place is None else self._code(place)
        before = self._change(code)
        if self.depth == "marks" or not code:
            return before + text
        return before + text.replace("\n", f" {_RESET}\n{code}")

    def end(self) -> str:
        """What has to stand behind the last piece."""
        return self._change("")

    def piece(self, text: str, piece: Piece, scores: Scores | None) -> str:
        """A piece of a scored text, shown as ``text``."""
        return self.paint(text, None if scores is None else level(self.kind, scores, piece.first, piece.last))

    def _change(self, code: str) -> str:
        if code == self._on:
            return ""
        close = "" if not self._on else "]" if self.depth == "marks" else _RESET
        self._on = code
        return close + code

    def _code(self, place: float) -> str:
        if self.depth == "marks":
            return f"[{round(place)}|" if round(place) else ""
        back = mixed(place)
        if self.depth == "256":
            return f"\x1b[48;5;{_of_256(back)};38;5;{_of_256(letters_on(back))}m"
        return "\x1b[48;2;{};{};{};38;2;{};{};{}m".format(*back, *letters_on(back))


def _of_256(colour: tuple[int, int, int]) -> int:
    """The nearest of the 6 x 6 x 6 colours that terminals number from 16 on."""
    steps = (0, 95, 135, 175, 215, 255)
    red, green, blue = (min(range(6), key=lambda i: abs(steps[i] - c)) for c in colour)
    return 16 + 36 * red + 6 * green + blue
