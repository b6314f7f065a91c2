"""Documents that are hardly prose: lists, menus, tables of signs."""

from __future__ import annotations

import re

from minigpt.data.cleaning.base import Dropped, Filter
from minigpt.registry import register
from minigpt.schema import Fraction, NonNegativeFloat, NonNegativeInt, options

_SIGNS = re.compile(r"#|\.\.\.|\u2026")
_LETTER = re.compile(r"[^\W\d_]")
_BULLETS = ("-", "*", "\u2022", "\u2023", "\u25aa", "\u25cf", "\u25e6", "\u2043", "\u00b7")
_ELLIPSES = ("...", "\u2026")
_STOP_WORDS = frozenset({"the", "be", "to", "of", "and", "that", "have", "with"})


@register("clean", "symbols")
class Symbols(Filter):
    """Drops a document in which words are rare among signs.

    The rules and bounds of Gopher, Rae et al. 2021, arXiv:2112.11446, section A.1.1. signs: hash signs and ellipses for
    each word, at most. bullets: share of lines that begin with a bullet point, at most. ellipses: share of lines that
    end with an ellipsis, at most. letters: share of words with a letter, at least. min_mean, max_mean: characters of a
    word on average. stop_words: how many different ones of the be to of and that have with, at least; English alone has
    them, 0 asks for none.
    """

    @options
    class Config:
        signs: NonNegativeFloat = 0.1
        bullets: Fraction = 0.9
        ellipses: Fraction = 0.3
        letters: Fraction = 0.8
        min_mean: NonNegativeFloat = 3.0
        max_mean: NonNegativeFloat = 10.0
        stop_words: NonNegativeInt = 0

    def __init__(self, config: Config):
        self.config = config

    def judge(self, text: str) -> Dropped | None:
        words = text.split()
        if not words:
            return Dropped("no words")
        signs = len(_SIGNS.findall(text)) / len(words)
        if signs > self.config.signs:
            return Dropped("hash signs and ellipses", f"{signs:.2f} for each word")
        lines = [line for each in text.split("\n") if (line := each.strip())]
        bullets = sum(line.startswith(_BULLETS) for line in lines) / len(lines)
        if bullets > self.config.bullets:
            return Dropped("bullet points", f"{bullets:.0%} of the lines")
        ellipses = sum(line.endswith(_ELLIPSES) for line in lines) / len(lines)
        if ellipses > self.config.ellipses:
            return Dropped("lines that break off", f"{ellipses:.0%} of the lines")
        letters = sum(word[0].isalpha() or _LETTER.search(word) is not None for word in words) / len(words)
        if letters < self.config.letters:
            return Dropped("words without letters", f"{1 - letters:.0%} of the words")
        mean = sum(map(len, words)) / len(words)
        if not self.config.min_mean <= mean <= self.config.max_mean:
            return Dropped("words too short or too long", f"{mean:.1f} characters on average")
        found = len(_STOP_WORDS.intersection(map(str.lower, words))) if self.config.stop_words else 0
        if found < self.config.stop_words:
            return Dropped("too few stop words", f"{found}")
        return None
