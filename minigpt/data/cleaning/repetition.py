"""Documents that say the same over and over."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minigpt.data.cleaning.base import Dropped, Filter
from minigpt.data.cleaning.fingerprints import Words
from minigpt.registry import register
from minigpt.schema import Fraction, options

_TOP = (2, 3, 4)
_DUPLICATE = (5, 6, 7, 8, 9, 10)


@register("clean", "repetition")
class Repetition(Filter):
    """Drops a document of which too large a share repeats what it has said.

    The rules and bounds of Gopher, Rae et al. 2021, arXiv:2112.11446, table A1. lines, paragraphs: share of those that
    came before. line_characters, paragraph_characters: their share of the characters. top_2, top_3, top_4: share of the
    characters in the run of so many words that comes most often, if repeatedly. runs_5, runs_6, runs_7, runs_8, runs_9,
    runs_10: share of the characters in runs of so many words that came before. 1 is no bound.
    """

    @options
    class Config:
        lines: Fraction = 0.3
        paragraphs: Fraction = 0.3
        line_characters: Fraction = 0.2
        paragraph_characters: Fraction = 0.2
        top_2: Fraction = 0.2
        top_3: Fraction = 0.18
        top_4: Fraction = 0.16
        runs_5: Fraction = 0.15
        runs_6: Fraction = 0.14
        runs_7: Fraction = 0.13
        runs_8: Fraction = 0.12
        runs_9: Fraction = 0.11
        runs_10: Fraction = 0.1

    def __init__(self, config: Config):
        self.config = config

    def judge(self, text: str) -> Dropped | None:
        for what, mark in (("lines", "\n"), ("paragraphs", "\n\n")):
            number, characters = repeated([p for each in text.split(mark) if (p := each.strip())])
            one = what[:-1]
            if number > getattr(self.config, what):
                return Dropped(f"repeated {what}", f"{number:.0%} of the {what}")
            if characters > getattr(self.config, f"{one}_characters"):
                return Dropped(f"repeated {what}, by characters", f"{characters:.0%} of the characters")
        words = Words(text)
        for length in _TOP:
            if len(words) > length and (share := top_share(words, length)) > getattr(self.config, f"top_{length}"):
                return Dropped(f"one run of {length} words too often", f"{share:.0%} of the characters")
        for length in _DUPLICATE:
            if len(words) <= length or not (share := repeated_share(words, length)):
                break  # nor is any longer run repeated
            if share > getattr(self.config, f"runs_{length}"):
                return Dropped(f"repeated runs of {length} words", f"{share:.0%} of the characters")
        return None


def repeated(pieces: Sequence[str]) -> tuple[float, float]:
    """Of some pieces, the share that came before: by number and by characters."""
    if len(pieces) < 2:
        return 0.0, 0.0
    once = dict.fromkeys(pieces)
    total = sum(map(len, pieces))
    return 1 - len(once) / len(pieces), 1 - sum(map(len, once)) / total


def top_share(words: Words, length: int) -> float:
    """Of a text's letters, those in the run of ``length`` words that comes most often, when it does so repeatedly."""
    runs = words.runs(length)
    ordered = np.sort(runs)
    last = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), len(runs) - 1)  # place of each run's last equal
    counts = np.diff(last, prepend=-1)
    most = counts.max()
    if most < 2:
        return 0.0
    begins = np.flatnonzero(np.isin(runs, ordered[last[counts == most]]))
    ends = np.cumsum(words.lengths)
    sizes = ends[begins + length - 1] - ends[begins] + words.lengths[begins]
    return float(sizes.max() * most / ends[-1])


def repeated_share(words: Words, length: int) -> float:
    """Of a text's letters, those in runs of ``length`` words that came before; where runs overlap, once."""
    runs = words.runs(length)
    ordered = np.sort(runs)
    if (ordered[1:] != ordered[:-1]).all():
        return 0.0
    first = np.unique(runs, return_index=True)[1]
    again = np.ones(len(runs), dtype=bool)
    again[first] = False
    covered = np.zeros(len(words) + 1, dtype=np.int64)
    covered[: len(runs)] += again
    covered[length : length + len(runs)] -= again
    inside = np.cumsum(covered[:-1]) > 0
    return float(words.lengths[inside].sum() / words.lengths.sum())
