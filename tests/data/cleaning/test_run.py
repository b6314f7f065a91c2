"""A whole cleaning: the same whoever does the work, every document accounted for."""

from __future__ import annotations

import itertools
import json
import random
import tracemalloc
from pathlib import Path

import pytest

from minigpt.data.cleaning import pool as pools
from minigpt.data.cleaning.run import clean
from minigpt.data.cleaning.steps import ReadSteps
from minigpt.data.document import Document
from minigpt.data.encoding import Cut
from minigpt.errors import UserError
from minigpt.plugins import load_plugins
from tests.data.cleaning.test_comparing import alike, some_text

ALL = {
    "normalise": {},
    "length": {"min_characters": 200},
    "repetition": {},
    "duplicates": {},
    "near_duplicates": {},
    "personal": {},
    "leakage": {},
}


def documents(count: int = 120) -> list[Document]:
    """Texts of which some are short, repeat themselves, come again, almost again, in val, or have an address."""
    chance = random.Random(7)
    texts = []
    for seed in range(count):
        words = some_text(seed, 150)
        kind = seed % 10
        if kind == 1:
            words = words[:10]
        elif kind == 2:
            words = words[:8] * 12
        elif kind == 3 and texts:
            words = chance.choice(texts).split()
        elif kind == 4:
            words = alike(some_text(seed - 4, 150), 0.9, seed)
        elif kind == 5:
            words = [*words, "bob@example.org"]
        elif kind == 6 and seed > count * 0.9:  # in val: half of an early one
            words = some_text(7, 150)[:70] + words[70:]
        texts.append(" ".join(words) + ("\n" if seed % 3 else "  \n\n\n"))
    return [Document(text, f"some.txt:{number}") for number, text in enumerate(texts, start=1)]


def run(given, folder: Path, steps=ALL, **keys):
    folder.mkdir()
    return clean(given, ReadSteps().read(steps, "clean"), folder, **{"val_fraction": 0.1} | keys)


def test_every_kind_of_fault_is_found_and_every_document_is_accounted_for(tmp_path):
    given = documents()
    found = run(given, tmp_path / "work")
    kept = list(found.documents())
    tally = found.tally.to_plain()
    dropped = {label: step["dropped"] for label, step in tally["steps"].items()}
    assert dropped["length"] == sum(len(document.text.strip()) < 200 for document in given) >= 12
    assert dropped["repetition"] == 16  # twelve, and four copies of those
    assert dropped["duplicates"] >= 5
    assert dropped["near_duplicates"] >= 11
    assert dropped["leakage"] >= 1
    assert tally["before"]["documents"] == len(given)
    assert tally["before"]["documents"] - sum(dropped.values()) == tally["after"]["documents"] == len(kept)
    assert tally["before"]["bytes"] == sum(len(document.text.encode()) for document in given)
    gone = sum(step["dropped_bytes"] + step["bytes_shorter"] for step in tally["steps"].values())
    assert tally["before"]["bytes"] - gone == tally["after"]["bytes"] == sum(len(d.text.encode()) for d in kept)
    assert all("example.org" not in document.text for document in kept)
    assert any("<EMAIL>" in document.text for document in kept)
    origins = [document.origin for document in kept]
    assert origins == sorted(origins, key=lambda origin: int(origin.split(":")[1]))
    steps = list(tally["steps"].values())
    for before, after in itertools.pairwise(steps):
        assert after["documents"] == before["documents"] - before["dropped"]


def test_what_is_dropped_is_among_the_samples_with_its_reason(tmp_path):
    given = [*documents(20), Document("too short", "odd.txt")]
    sample = run(given, tmp_path / "work").tally.to_plain()["steps"]["length"]["samples"][-1]
    assert sample == {
        "origin": "odd.txt",
        "reason": "fewer than 200 characters",
        "detail": "9",
        "text": "too short",
    }


@pytest.mark.parametrize("workers", [3])
def test_the_result_does_not_depend_on_the_number_of_processes_or_the_size_of_batches(tmp_path, monkeypatch, workers):
    alone = run(documents(), tmp_path / "alone")
    monkeypatch.setattr(pools, "BATCH", 3000)
    several = run(documents(), tmp_path / "several", workers=workers)
    assert list(several.documents()) == list(alone.documents())
    assert several.tally.to_plain() == alone.tally.to_plain()
    assert several.train == alone.train
    assert several.tally.markdown() == alone.tally.markdown()


def test_long_texts_get_workers_and_short_ones_do_not(tmp_path, monkeypatch):
    asked: list[int] = []
    real = pools.worker_pool.answers
    monkeypatch.setattr(pools.worker_pool, "answers", lambda *given: asked.append(given[-1]) or real(*given))
    monkeypatch.setattr(pools.worker_pool, "cores", lambda: 2)
    run(documents(30), tmp_path / "short", workers=None)
    assert asked == []
    monkeypatch.setattr(pools, "WORTH_WORKERS", 1000)
    run(documents(30), tmp_path / "long", {"length": {}}, workers=None)
    assert asked == [2]


def test_validation_begins_where_it_would_and_knows_nothing_of_train(tmp_path):
    given = documents()
    without = run(given, tmp_path / "without", {label: step for label, step in ALL.items() if label != "leakage"})
    kept = list(without.documents())
    found = run(given, tmp_path / "work")
    left = list(found.documents())
    cut = Cut.of(sum(len(document.text) for document in kept), 0.1)
    place, val = 0, []
    for document in kept:
        if cut.within(place, len(document.text), True) < len(document.text):
            val.append(document)
        place += len(document.text)
    assert left[-len(val) :] == val
    train = left[: -len(val)]
    assert sum(len(document.text) for document in train) == found.train.characters
    assert sum(not document.text.endswith("\n") for document in train) == found.train.unended
    runs = {tuple(words[i : i + 13]) for d in val for words in [d.text.split()] for i in range(len(words) - 12)}
    for document in train:
        words = document.text.split()
        assert sum(tuple(words[i : i + 13]) in runs for i in range(len(words) - 12)) < 0.2 * len(words)


def test_a_text_in_parts_still_ends_when_its_last_part_is_dropped(tmp_path):
    long = " ".join(some_text(1, 200))
    parts = [Document(long, "a", ends=False), Document("short", "a", ends=True), Document(long[::-1], "b")]
    found = run(parts, tmp_path / "work", {"length": {}})
    assert [(document.origin, document.ends) for document in found.documents()] == [("a", True), ("b", True)]


def test_nothing_left_is_said_with_the_step_that_took_most(tmp_path):
    with pytest.raises(UserError, match=r"nothing is left of 3 documents; length dropped 2: fewer than 200 characters"):
        run([Document(text, "a") for text in ("a", "b", "b")], tmp_path / "work", {"duplicates": {}, "length": {}})


def test_a_text_that_normalising_empties_is_dropped(tmp_path):
    given = [Document("\u200b\u200b\n", "a"), Document("text", "b")]
    found = run(given, tmp_path / "work", {"normalise": {}})
    assert [document.text for document in found.documents()] == ["text"]
    assert found.tally.to_plain()["steps"]["normalise"]["reasons"] == {"nothing is left of it": 1}


def test_texts_of_any_bytes_come_through_whole(tmp_path):
    given = [Document(text, text) for text in ("nul\0", "lone \udfff", "漢字", "line\r\n\u2028", "\x1b[31mred")]
    for workers in (1, 2):
        found = run(given, tmp_path / str(workers), {"duplicates": {}}, workers=workers)
        assert list(found.documents()) == given


@pytest.mark.parametrize("workers", [1, 2])
def test_a_step_from_outside_works_in_every_process(tmp_path, monkeypatch, workers):
    place = str(Path(__file__).with_name("plugin_steps.py"))
    load_plugins([place])
    given = [Document("spam and eggs", "a"), Document("eggs", "b")]
    found = run(given, tmp_path / "work", {"no_word": {"word": "spam"}}, workers=workers, plugins=[place])
    assert [document.text for document in found.documents()] == ["eggs"]


def test_memory_does_not_grow_with_the_text(tmp_path, monkeypatch):
    """Four times the text takes hardly more: a few batches, and some hundred bytes a document."""
    monkeypatch.setattr(pools, "BATCH", 20_000)
    steps = {"normalise": {}, "length": {}, "duplicates": {}, "near_duplicates": {}, "leakage": {}}
    words = [" ".join(some_text(seed, 100)) for seed in range(20)]
    peaks = []
    for count in (10, 60, 240):
        given = (Document(f"{number} " + " ".join(words[number % 17 :]), f"{number}") for number in range(count))
        tracemalloc.start()
        run(given, tmp_path / str(count), steps)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < peaks[1] + 180 * 1000


def test_samples_act_on_nothing_they_are_shown_in(tmp_path):
    hostile = "\x1b[2J\u202e|`</script>[x](http://x)\n# head\n" + "A"
    found = run([Document(hostile, "\x1b]0;x\x07|`<b>"), Document("x" * 300, "b")], tmp_path / "work", {"length": {}})
    for line in found.tally.table():
        assert line.isprintable()
    page = found.tally.markdown()
    assert "\x1b" not in page
    assert "\u202e" not in page
    assert "</script>" not in page
    assert "[x](" not in page
    assert "\n# head" not in page
    assert json.loads(json.dumps(found.tally.to_plain()))["steps"]["length"]["samples"][0]["text"] == hostile
