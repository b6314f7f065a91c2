"""Steps that judge one document: length, language, repetition, symbols."""

from __future__ import annotations

import random

import pytest

from minigpt import registry
from minigpt.data.cleaning.fingerprints import Words
from minigpt.data.cleaning.repetition import repeated, repeated_share, top_share
from minigpt.errors import UserError

PROSE = (
    "The ferry left the harbour an hour late, and nobody on the quay seemed to mind. Gulls followed it as far as the "
    "lighthouse; then they turned back to the boats that had come in with the night's catch. Marta counted her money "
    "twice, put most of it away, and went to ask the captain whether he would have a place for her in the spring."
)
GERMAN = (
    "Die Fähre verließ den Hafen mit einer Stunde Verspätung, und niemand am Kai schien sich daran zu stören. Möwen "
    "folgten ihr bis zum Leuchtturm und kehrten dann zu den Booten zurück, die mit dem Fang der Nacht gekommen waren."
)


def step(name: str, **options):
    return registry.build(registry.spec("clean", {"name": name} | options))


def reason(name: str, text: str, **options) -> str:
    why = step(name, **options).judge(text)
    return "" if why is None else why.reason


def test_bounds_of_length_are_kept():
    assert reason("length", "x" * 199) == "fewer than 200 characters"
    assert reason("length", "x" * 200) == ""
    assert reason("length", "é" * 11, min_characters=0, max_characters=10) == "more than 10 characters"
    assert reason("length", "one two", min_characters=0, min_words=3) == "fewer than 3 words"
    assert reason("length", "one two three four", min_characters=0, max_words=3) == "more than 3 words"
    assert reason("length", "") == "fewer than 200 characters"
    with pytest.raises(UserError, match="nothing would be left"):
        step("length", min_characters=100, max_characters=50)
    with pytest.raises(UserError, match="it would do nothing"):
        step("length", min_characters=0)


def test_another_language_goes_and_the_wanted_ones_stay():
    assert reason("language", PROSE) == ""
    assert reason("language", GERMAN) == "in none of en"
    assert reason("language", GERMAN, keep=["en", "de"]) == ""
    assert reason("language", "東京は日本の首都であり、世界で最も人口の多い都市の一つです。") == "in none of en"
    assert reason("language", "+-----+-----+\n| 1.0 | 2.0 |\n" * 20) != ""
    assert reason("language", "") != ""  # nothing to go by
    assert reason("language", PROSE, among=["en", "de"], probability=1.0) in ("", "less than 1 sure")


def test_languages_that_are_none_or_make_no_choice_are_refused():
    with pytest.raises(UserError, match=r"language\.keep: there is no language 'english'"):
        step("language", keep=["english"])
    with pytest.raises(UserError, match=r"language\.keep: is empty"):
        step("language", keep=[])
    with pytest.raises(UserError, match="none would ever be found"):
        step("language", keep=["en"], among=["de", "fr"])
    with pytest.raises(UserError, match="keeps every language"):
        step("language", keep=["en", "de"], among=["en", "de"])


def test_prose_does_not_repeat_itself_too_much():
    assert reason("repetition", PROSE) == ""
    assert reason("repetition", "") == ""
    assert reason("repetition", "one") == ""


AGAIN = "a very long line that comes again and again"
CLICK = "click here for more about cats. click here for more on dogs. click here for more of fish."


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Buy now!\n" * 30, "repeated lines"),
        ("\n".join([*"abcdefghijkl", AGAIN, AGAIN]), "repeated lines, by characters"),
        (PROSE + " " + PROSE, "repeated runs of 5 words"),
        (CLICK, "one run of 2 words too often"),
    ],
)  # fmt: skip
def test_repetition_goes(text, expected):
    assert reason("repetition", text) == expected


def test_bounds_of_repetition_can_be_lifted():
    off = {f"runs_{n}": 1.0 for n in range(5, 11)} | {f"top_{n}": 1.0 for n in (2, 3, 4)}
    assert reason("repetition", PROSE + " " + PROSE, **off) == ""


def test_shares_of_repetition_are_those_of_a_plain_count():
    chance = random.Random(3)
    for _ in range(30):
        words = [chance.choice(["a", "bb", "ccc", "dddd", "eeeee"]) for _ in range(chance.randrange(3, 60))]
        found = Words(" ".join(words))
        letters = sum(map(len, words))
        for length in (2, 3):
            runs = [tuple(words[i : i + length]) for i in range(len(words) - length + 1)]
            most = max(runs.count(run) for run in runs)
            best = max(sum(map(len, run)) * most for run in runs if runs.count(run) == most) if most > 1 else 0
            assert top_share(found, length) == pytest.approx(best / letters)
            again = [i for i, run in enumerate(runs) if run in runs[:i]]
            covered = {i + j for i in again for j in range(length)}
            assert repeated_share(found, length) == pytest.approx(sum(len(words[i]) for i in covered) / letters)
    assert repeated(["a", "b", "a", "cc"]) == pytest.approx((0.25, 0.2))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# one # two # three", "hash signs and ellipses"),
        ("\n".join(f"- item number {word}" for word in ["one", "two", "three"] * 4), "bullet points"),
        ("\n".join(f"and then the story of {word} …" for word in ["one", "two", "three"]), "hash signs and ellipses"),
        ("\n".join([f"{PROSE[:60]} ..."] * 2), "lines that break off"),
        ("12 34 56 78 90 words 11 22 33", "words without letters"),
        ("a b c d e f g h", "words too short or too long"),
        ("supercalifragilisticexpialidocious " * 3, "words too short or too long"),
        (" \n ", "no words"),
    ],
)  # fmt: skip
def test_what_is_no_prose_goes(text, expected):
    assert reason("symbols", text) == expected


def test_prose_stays_in_any_script_where_no_stop_words_are_asked_for():
    assert reason("symbols", PROSE, stop_words=2) == ""
    assert reason("symbols", GERMAN) == ""
    assert reason("symbols", GERMAN, stop_words=2) == "too few stop words"
