"""The steps of a sample as PNG pictures: a heatmap of the likeliest tokens, and their bars."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minigpt.files import plainly, replacing
from minigpt.generation.colour import HEAT, letters_on, mixed

if TYPE_CHECKING:
    from minigpt.generation.heatmaps import Candidate, Choice

STEPS = 96  # steps of a picture; further ones come in further pictures
PICTURED = 384  # steps of a text that have pictures; a picture takes seconds, and the page has every step
COLUMNS = 24  # steps in a line of the heatmap
PANELS = 12  # steps in a line of bars
LONGEST = 9  # characters of a label
CHOSEN, OTHER = "#d9480f", "#9aa4b2"
DPI = 100

Box = tuple[float, float, float, float, Any]
"""x, y, width, height, colour."""


def draw(folder: Path, name: str, title: str, choices: Sequence[Choice]) -> list[Path]:
    """Write ``<name>-heatmap.png`` and ``<name>-bars.png`` into ``folder``, numbered from the second on; returns them.

    They show the first PICTURED steps. Raises UserError when the system refuses.
    """
    files = []
    choices = choices[:PICTURED]
    for part, begin in enumerate(range(0, len(choices), STEPS), start=1):
        some = choices[begin : begin + STEPS]
        words = f"{title}, steps {some[0].number} to {some[-1].number}"
        number = "" if part == 1 else f"-{part}"
        files.append(_saved(_heatmap(words, some), folder / f"{name}-heatmap{number}.png"))
        files.append(_saved(_bars(words, some), folder / f"{name}-bars{number}.png"))
    return files


def _heatmap(title: str, choices: Sequence[Choice]) -> Any:
    """A column is a step, best token on top; the likelier, the darker; the one taken is outlined."""
    height = max(len(choice.candidates) for choice in choices)
    lines = list(_in_lines(choices, COLUMNS))
    figure, axes = _page(title, width=22, height=len(lines) * (height + 1.6) * 0.24)
    cells, taken = list[Box](), list[Box]()
    for line, some in enumerate(lines):
        bottom = (len(lines) - 1 - line) * (height + 1.6)
        for column, choice in enumerate(some):
            axes.text(column + 0.5, bottom + height + 0.35, str(choice.number), ha="center", fontsize=8, alpha=0.7)
            for place, each in enumerate(choice.candidates):
                low = bottom + height - 1 - place
                back = mixed(4 * each.probability, HEAT)
                cells.append((column + 0.02, low + 0.04, 0.96, 0.92, _unit(back)))
                _write(axes, column + 0.08, low + 0.5, each, _unit(letters_on(back)))
        for column, choice in enumerate(some):
            low = bottom + height - 1 - [each.chosen for each in choice.candidates].index(True)
            taken.append((column + 0.02, low + 0.04, 0.96, 0.92, "none"))
    _boxes(axes, cells)
    _boxes(axes, taken, edgecolor=CHOSEN, linewidth=2)
    axes.set_xlim(0, min(COLUMNS, max(len(choices), 8)))
    axes.set_ylim(-0.3, len(lines) * (height + 1.6) - 0.4)
    return figure


def _bars(title: str, choices: Sequence[Choice]) -> Any:
    """A panel is a step; a bar's length is a probability, and the one taken is orange."""
    height = max(len(choice.candidates) for choice in choices)
    lines = list(_in_lines(choices, PANELS))
    figure, axes = _page(title, width=22, height=len(lines) * (height + 2.2) * 0.19)
    bars = list[Box]()
    for line, some in enumerate(lines):
        bottom = (len(lines) - 1 - line) * (height + 2.2)
        for column, choice in enumerate(some):
            words = f"{choice.number}: rank {choice.rank}, {choice.entropy:.2f} bits"
            axes.text(column + 0.34, bottom + height + 0.35, words, fontsize=8, alpha=0.7)
            for place, each in enumerate(choice.candidates):
                low = bottom + height - 1 - place
                colour = CHOSEN if each.chosen else OTHER
                bars.append((column + 0.34, low + 0.12, 0.4 * each.probability, 0.76, colour))
                axes.text(
                    column + 0.33,
                    low + 0.5,
                    _cut(each.text),
                    ha="right",
                    va="center",
                    fontsize=8,
                    family=_FONT,
                    parse_math=False,
                )
                share = f" {100 * each.probability:.3g} %"
                axes.text(column + 0.34 + 0.4 * each.probability, low + 0.5, share, va="center", fontsize=7, alpha=0.8)
    _boxes(axes, bars)
    axes.set_xlim(0, min(PANELS, max(len(choices), 2)))
    axes.set_ylim(-0.3, len(lines) * (height + 2.2) - 0.2)
    return figure


_FONT = "DejaVu Sans Mono"  # comes with matplotlib


def _page(title: str, width: float, height: float) -> tuple[Any, Any]:
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"text.parse_math": False, "font.family": "DejaVu Sans"}):
        figure = Figure(figsize=(width, height + 0.7), dpi=DPI, facecolor="white")
        FigureCanvasAgg(figure)
        margin = 0.5 / (height + 0.7)
        axes = figure.add_axes((0.01, 0.01, 0.98, 1 - margin - 0.01))
        axes.axis("off")
        figure.text(0.012, 1 - margin / 2, _drawable(title), va="center", fontsize=12, parse_math=False)
    return figure, axes


def _boxes(axes: Any, boxes: Sequence[Box], **style: Any) -> None:
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    patches = [Rectangle((x, y), width, height) for x, y, width, height, _ in boxes]
    colours = [colour for *_, colour in boxes]
    axes.add_collection(PatchCollection(patches, facecolor=colours, zorder=1, **({"linewidth": 0} | style)))


def _write(axes: Any, x: float, y: float, each: Candidate, colour: Any) -> None:
    """A token, and its probability in per cent at the right of its cell."""
    axes.text(x, y, _cut(each.text), va="center", fontsize=8, color=colour, family=_FONT, parse_math=False)
    share = f"{100 * each.probability:.0f}" if each.probability >= 0.005 else "<1"
    axes.text(x + 0.85, y, share, va="center", ha="right", fontsize=7, color=colour, alpha=0.8)


def _cut(text: str) -> str:
    text = _drawable(text)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _drawable(text: str) -> str:
    """A text in which characters that the font lacks are spelt out."""
    known = _known_characters()
    return "".join(c if ord(c) in known else c.encode("unicode_escape").decode() for c in text)


@functools.cache
def _known_characters() -> frozenset[int]:
    from matplotlib import font_manager

    return frozenset(font_manager.get_font(font_manager.findfont(_FONT)).get_charmap())


def _in_lines(choices: Sequence[Choice], width: int) -> Iterator[Sequence[Choice]]:
    for begin in range(0, len(choices), width):
        yield choices[begin : begin + width]


def _unit(colour: tuple[int, int, int]) -> tuple[float, ...]:
    return tuple(c / 255 for c in colour)


def _saved(figure: Any, file: Path) -> Path:
    with plainly(file), replacing(file) as temporary:
        figure.savefig(temporary, format="png")
    return file
