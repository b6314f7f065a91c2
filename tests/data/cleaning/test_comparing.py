"""Steps that compare: what was there before, what is almost the same, and what val asks."""

from __future__ import annotations

import random

import numpy as np
import pytest

from minigpt import registry
from minigpt.data.cleaning.near_duplicates import banding, jaccard

WORDS = [f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in "bdgklmnrst"]


def step(name: str, folder=None, **options):
    built = registry.build(registry.spec("clean", {"name": name} | options))
    if folder is not None:
        built.open(folder)
    return built


def dropped(comparison, texts: list[str]) -> list[int]:
    """Numbers of the texts that a step drops."""
    whys = [comparison.compare(comparison.sketch(text), f"text {n}") for n, text in enumerate(texts)]
    return [number for number, why in enumerate(whys) if why is not None]


def some_text(seed: int, length: int = 400) -> list[str]:
    chance = random.Random(seed)
    return [chance.choice(WORDS) for _ in range(length)]


def alike(words: list[str], similarity: float, seed: int) -> list[str]:
    """The words with a stretch at the end exchanged, so that the sets of runs of five have about that similarity."""
    runs = len(words) - 4
    kept = round(2 * runs * similarity / (1 + similarity))
    return words[: kept + 4] + some_text(seed + 10_000, len(words) - kept - 4)


def runs_of(words: list[str]) -> set[tuple[str, ...]]:
    return {tuple(words[i : i + 5]) for i in range(len(words) - 4)}


def test_the_same_text_is_found_again(tmp_path):
    texts = ["one two", "three", "one two", "one  two\n", "One two", "", "", "three"]
    assert dropped(step("duplicates", tmp_path), texts) == [2, 3, 6, 7]
    assert dropped(step("duplicates", tmp_path, ignore_space=False), texts) == [2, 6, 7]
    assert dropped(step("duplicates", tmp_path, ignore_case=True), texts) == [2, 3, 4, 6, 7]


def test_among_twenty_thousand_texts_no_two_are_mistaken_for_one(tmp_path):
    assert dropped(step("duplicates", tmp_path), [f"text number {n}" for n in range(20_000)]) == []


@pytest.mark.parametrize(("similarity", "least"), [(0.95, 200), (0.9, 200), (0.85, 195)])
def test_near_duplicates_are_found(tmp_path, similarity, least):
    texts = [some_text(seed) for seed in range(200)]
    copies = [alike(words, similarity, seed) for seed, words in enumerate(texts)]
    found = dropped(step("near_duplicates", tmp_path), [" ".join(words) for words in texts + copies])
    assert len(found) >= least
    assert all(number >= 200 for number in found)


@pytest.mark.parametrize("similarity", [0.3, 0.5, 0.7])
def test_what_is_less_alike_is_kept(tmp_path, similarity):
    texts = [some_text(seed) for seed in range(100)]
    copies = [alike(words, similarity, seed) for seed, words in enumerate(texts)]
    assert dropped(step("near_duplicates", tmp_path), [" ".join(words) for words in texts + copies]) == []


@pytest.mark.parametrize("similarity", [0.76, 0.79, 0.81, 0.84])
def test_the_true_similarity_decides_and_no_estimate(tmp_path, similarity):
    """Near the threshold, where MinHash values alone would err: nothing below it is ever dropped."""
    near = step("near_duplicates", tmp_path)
    for seed in range(40):
        words = some_text(seed)
        other = alike(words, similarity, seed)
        true = len(runs_of(words) & runs_of(other)) / len(runs_of(words) | runs_of(other))
        near.open(tmp_path)
        found = dropped(near, [" ".join(words), " ".join(other)])
        assert found == [] if true < 0.8 else found in ([1], [])


def test_case_and_signs_make_no_difference_to_near_duplicates_and_order_does(tmp_path):
    words = some_text(0)
    louder = ", ".join(words).upper() + "!"
    shuffled = sorted(words)
    assert dropped(step("near_duplicates", tmp_path), [" ".join(words), louder, " ".join(shuffled)]) == [1]


def test_short_and_empty_texts_are_compared_whole(tmp_path):
    assert dropped(
        step("near_duplicates", tmp_path), ["one two", "one two", "two one", "", "", "...", "漢字", "漢字"]
    ) == [1, 7]


def test_a_near_duplicate_says_of_what(tmp_path):
    near = step("near_duplicates", tmp_path)
    text = " ".join(some_text(1))
    assert near.compare(near.sketch(text), "a.txt:1") is None
    assert near.compare(near.sketch(text + " end"), "b.txt").detail == "Jaccard 1.00 with a.txt:1"


@pytest.mark.parametrize("threshold", [0.05, 0.3, 0.5, 0.65, 0.8, 0.9, 0.95, 1.0])
def test_bands_fit_any_threshold(threshold):
    bands, rows = banding(threshold)
    assert bands * rows <= 96
    assert 1 - (1 - threshold**rows) ** bands >= 0.98
    assert threshold < 0.3 or 1 - (1 - (threshold / 3) ** rows) ** bands < 0.5


@pytest.mark.parametrize("threshold", [0.5, 0.65])
def test_a_lower_threshold_finds_less_alike_texts_just_as_surely(tmp_path, threshold):
    texts = [some_text(seed) for seed in range(100)]
    copies = [alike(words, threshold + 0.03, seed) for seed, words in enumerate(texts)]
    found = dropped(step("near_duplicates", tmp_path, threshold=threshold), [" ".join(w) for w in texts + copies])
    assert len(found) >= 97


def test_jaccard_is_that_of_sets():
    one, other = np.array([1, 2, 3, 5]), np.array([2, 3, 4])
    assert jaccard(one, other) == 2 / 5


def test_a_document_of_train_that_stands_in_val_is_found():
    leakage = step("leakage")
    val = [some_text(seed, 300) for seed in range(20)]
    for words in val:
        leakage.learn(leakage.sketch(" ".join(words)))
    other = some_text(99, 300)
    judged = {
        "a copy": val[3],
        "a copy within more": other[:100] + val[5] + other[100:200],
        "half of it": val[7][:150] + other[:150],
        "a stretch of 60 words of 300": val[9][100:160] + other[:240],
        "a quotation of 30 words": val[9][100:130] + other[:270],
        "of its own": other,
        "the same words in another order": sorted(val[2]),
    }
    found = {name: leakage.judge_sketch(leakage.sketch(" ".join(words))) for name, words in judged.items()}
    assert [name for name, why in found.items() if why is not None] == ["a copy", "a copy within more", "half of it"]
    assert found["a copy"].detail == "100% of the words"


def test_any_common_stretch_of_twenty_five_words_is_seen_wherever_it_lies():
    leakage = step("leakage", share=0.0)
    val = some_text(1, 400)
    leakage.learn(leakage.sketch(" ".join(val)))
    for start in range(0, 375, 7):
        text = " ".join([*some_text(start + 50, 40), *val[start : start + 25], *some_text(start + 51, 40)])
        assert leakage.judge_sketch(leakage.sketch(text)) is not None


def test_without_anything_in_val_nothing_leaks():
    leakage = step("leakage")
    leakage.learn(leakage.sketch("..."))
    assert leakage.judge_sketch(leakage.sketch("one two three")) is None
    assert leakage.judge_sketch(leakage.sketch("")) is None
