"""Words as numbers: against a plain Python reading of the same rules."""

from __future__ import annotations

import random
import re

import numpy as np
import pytest

from minigpt.data.cleaning.fingerprints import Words
from minigpt.data.cleaning.table import Table

TEXTS = [
    "", " ", "...", "one", "One two, THREE!", "naïve façades cost 5 €", "a\nb\tc", "x" * 70_000,
    "東京は日本の首都です。", "mixed 漢字kanji and 仮名", "tail漢", "한국어 문장", "emoji 🙂 stays",
]  # fmt: skip


def plainly(text: str) -> list[str]:
    """Letters, digits and whatever is not ASCII; of U+3000 to U+9FFF each character."""
    return re.findall("[\u3000-\u9fff]|[a-z0-9\u0080-\u2fff\ua000-\U0010ffff]+", text.lower())


@pytest.mark.parametrize("text", TEXTS)
def test_words_are_those_of_a_plain_reading(text):
    words = plainly(text)
    assert Words(text).lengths.tolist() == [len(word.encode()) for word in words]
    assert Words(text).hashes.tolist() == [int(Words(word).hashes[0]) for word in words]


def test_different_words_have_different_hashes_wherever_they_stand():
    words = [f"{a}{b}{c}" for a in "abcdefghij0" for b in "abcdefghij" for c in "abcdefghij1"]
    text = " ".join(words)
    assert len(set(Words(text).hashes.tolist())) == len(set(words))
    assert Words(f"zz {text}").hashes[1:].tolist() == Words(text).hashes.tolist()


def test_runs_are_equal_where_their_words_are():
    chance = random.Random(0)
    words = [chance.choice("abc") for _ in range(300)]
    runs = Words(" ".join(words)).runs(4)
    seen: dict[tuple[str, ...], int] = {}
    for place, run in enumerate(runs.tolist()):
        assert seen.setdefault(tuple(words[place : place + 4]), run) == run
    assert len(set(seen.values())) == len(seen)


def test_a_text_of_fewer_words_is_one_run():
    assert len(Words("one two").runs(5)) == 1
    assert Words("one two").runs(5) != Words("two one").runs(5)
    assert len(Words("").runs(5)) == 0


def test_a_table_finds_what_was_put_in_earliest_first_while_it_grows():
    keys = np.random.default_rng(0).integers(0, 2**64, size=20_000, dtype=np.uint64)
    table = Table(slots=16)
    for number, key in enumerate(keys):
        table.add(np.array([key]), number)
    assert len(table) == 20_000
    for number in range(0, 20_000, 97):
        assert table.find(keys[number : number + 1], 4).tolist() == [number]
    table.add(keys[:3], 50_000)
    assert table.find(keys[:1], 1).tolist() == [0]
    assert table.find(keys[:2], 4).tolist() == [0, 1, 50_000]
    assert table.find(np.array([5], dtype=np.uint64), 4).tolist() == []
