"""Colours: what a terminal says of itself decides their kind; nothing of the text is lost in them."""

from __future__ import annotations

import io
import itertools
import math
import re

import pytest
import torch

from minigpt.generation.colour import LEVELS, SCALE, Painter, depth_of, letters_on, level, mixed
from minigpt.generation.growing import Piece
from minigpt.generation.scoring import Scores

NONE = torch.empty(0)


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"COLORTERM": "truecolor", "TERM": "xterm-256color"}, "24bit"),
        ({"TERM": "xterm-direct"}, "24bit"),
        ({"TERM": "screen-256color"}, "256"),
        ({"TERM": "xterm"}, "marks"),
        ({"TERM": "dumb"}, "marks"),
        ({}, "marks"),
        ({"COLORTERM": "truecolor", "NO_COLOR": "1", "FORCE_COLOR": "1"}, "marks"),
        ({"COLORTERM": "truecolor", "NO_COLOR": ""}, "24bit"),
    ],
)
def test_a_terminal_says_which_colours_it_has(environment, expected):
    assert depth_of(Terminal(), environment) == expected
    assert depth_of(io.StringIO(), environment) == "marks"


def test_colours_can_be_had_in_a_pipe():
    assert depth_of(io.StringIO(), {"FORCE_COLOR": "1", "TERM": "xterm-256color"}) == "256"


def scores(p: float, rank: int = 1, bits: float = 0.0) -> Scores:
    return Scores(torch.tensor([math.log(p)]), torch.tensor([rank]), torch.tensor([bits]), NONE, NONE)


@pytest.mark.parametrize(
    ("kind", "known", "expected"),
    [
        ("probability", scores(1.0), 0.0),
        ("probability", scores(0.1), 2.0),
        ("probability", scores(1e-9), 4.0),
        ("rank", scores(1.0, rank=1), 0.0),
        ("rank", scores(1.0, rank=10), 2.0),
        ("rank", scores(1.0, rank=50_000), 4.0),
        ("entropy", scores(1.0, bits=3.0), 2.0),
        ("entropy", scores(1.0, bits=15.0), 4.0),
        ("entropy", scores(1.0, bits=math.nan), 4.0),
    ],
)
def test_the_legend_says_what_a_level_is(kind, known, expected):
    assert level(kind, known, 0, 1) == pytest.approx(expected, abs=1e-6)
    if 0 < expected < 4:
        assert LEVELS[kind][2] in ("0.1", "10", "3")


def test_several_tokens_of_one_character_have_the_colour_of_the_least_expected():
    known = Scores(torch.tensor([0.1, 0.001, 0.9]).log(), torch.ones(3), torch.ones(3), NONE, NONE)
    assert level("probability", known, 0, 3) == 4.0
    assert level("probability", known, 2, 3) < 0.2


def test_each_level_is_darker_than_the_last_and_its_letters_can_be_read():
    def light(colour):
        red, green, blue = ((c / 255) ** 2.2 for c in colour)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    shades = [mixed(place / 10) for place in range(41)]
    assert all(light(a) > light(b) for a, b in itertools.pairwise(shades))
    assert (shades[0], shades[-1]) == (SCALE[0], SCALE[-1])
    for shade in shades:
        back, front = light(shade), light(letters_on(shade))
        assert (max(back, front) + 0.05) / (min(back, front) + 0.05) >= 4.5  # WCAG 2.1, AA


@pytest.mark.parametrize("depth", ["24bit", "256", "marks"])
def test_a_legend_is_one_line_with_every_level(depth):
    for kind, levels in LEVELS.items():
        legend = Painter(kind, depth).legend()
        assert "\n" not in legend
        assert all(words in legend for words in levels)


def test_marks_stand_around_what_was_less_expected():
    painter = Painter("rank", "marks")
    known = Scores(NONE, torch.tensor([1, 9, 11, 1000, 1]), NONE, NONE, NONE)
    texts = [("th", 0), ("e", 1), (" c\n", 2), ("at", 3), (".", 4)]
    out = painter.paint("in ", None) + "".join(painter.piece(t, Piece(i, i + 1, t), known) for t, i in texts)
    assert out + painter.end() == "in th[2|e c\n][4|at]."


def test_a_colour_ends_with_its_line_and_begins_again_after_it():
    painter = Painter("probability", "24bit")
    out = painter.paint("a\nb", 4.0) + painter.paint("c", 4.0) + painter.paint("d", None)
    code = "\x1b[48;2;128;0;38;38;2;255;255;255m"
    assert out == f"{code}a \x1b[0m\n{code}bc\x1b[0md"
    assert painter.end() == ""


def test_256_colours_are_those_of_the_cube():
    codes = re.findall(r"48;5;(\d+);38;5;(\d+)m", Painter("rank", "256").legend())
    assert codes == [("230", "16"), ("221", "16"), ("209", "16"), ("160", "231"), ("88", "231")] or len(codes) == 5
    assert all(16 <= int(number) <= 231 for pair in codes for number in pair)
