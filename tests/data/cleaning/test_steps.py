"""Steps as a file lists them: by name, with typed options, in order."""

from __future__ import annotations

from pathlib import Path

import pytest

from minigpt import config
from minigpt.data.cleaning.steps import ReadSteps
from minigpt.errors import UserError
from minigpt.shipped import CONF

FILES = sorted((CONF / "clean").glob("*.yaml"))


def read(node):
    return ReadSteps().read(node, "clean")


def test_steps_keep_their_order_and_their_options():
    steps = read({"length": {"min_words": 5}, "duplicates": None, "again": {"name": "length", "max_words": 9}})
    assert list(steps.specs) == ["length", "duplicates", "again"]
    assert [type(step).__name__ for step in steps.build().values()] == ["Length", "Duplicates", "Length"]
    assert read(steps.to_plain()) == steps


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"lenght": {}}, r"clean\.lenght\.name: there is no clean named 'lenght'\. Did you mean 'length'"),
        ({"length": {"min_word": 5}}, r"clean\.length\.min_word: 'length' has no option .* Did you mean 'min_words'"),
        ({"length": {"min_words": -1}}, r"clean\.length\.min_words: -1 is out of range"),
        ({"length": {"min_words": "many"}}, "expected a whole number"),
        ({"length": 5}, r"clean\.length: expected options of the step"),
        ([{"length": {}}], "expected steps with their options"),
        ("length", "expected steps with their options"),
        ({"a b": {"name": "length"}}, "expected a step's name, or a word"),
        ({"../x": {"name": "duplicates"}}, "expected a step's name, or a word"),
        ({"near_duplicates": {"threshold": 1.5}}, "out of range"),
        ({"normalise": {"form": "NFD"}}, "expected one of NFC, NFKC, none"),
    ],
)  # fmt: skip
def test_what_is_no_step_is_refused(node, message):
    with pytest.raises(UserError, match=message):
        read(node)


def test_leakage_comes_last_and_once():
    with pytest.raises(UserError, match=r"clean\.leakage: has to be the last step"):
        read({"leakage": {}, "length": {}}).build()
    with pytest.raises(UserError, match=r"clean\.leakage: has to be the last step"):
        read({"leakage": {}, "second": {"name": "leakage"}}).build()


def test_options_that_contradict_each_other_name_their_step():
    with pytest.raises(UserError, match=r"clean\.short: length: max_words=1 is below min_words=5"):
        read({"short": {"name": "length", "min_words": 5, "max_words": 1}}).build()


def test_the_hash_is_that_of_options_and_order():
    said = [
        {"length": {}, "duplicates": {}},
        {"duplicates": {}, "length": {}},
        {"length": {"min_words": 1}, "duplicates": {}},
        {"length": {}},
    ]
    assert len({read(node).hash for node in said}) == 4
    assert read({"length": {"min_characters": 200}}).hash == read({"length": None}).hash


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_shipped_list_of_steps_is_understood(file: Path):
    steps = read(config.load_yaml(file))
    assert steps.build()
    assert file.read_text().startswith("# ")
