"""``data/prepare.py ... clean=web``: from the command line to the dataset's folder."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from minigpt.data.cleaning.steps import ReadSteps
from minigpt.data.dataset import open_dataset
from minigpt.data.dataset_folder import read_meta
from minigpt.data.preparation import PrepareConfig, prepare
from minigpt.errors import UserError
from tests.data.cleaning.test_run import ALL, documents


@pytest.fixture
def source(tmp_path) -> Path:
    file = tmp_path / "texts.jsonl"
    file.write_text("".join(json.dumps({"text": document.text}) + "\n" for document in documents()))
    return file


def prepared(source: Path, name: str = "texts", say=lambda line: None, **keys) -> Path:
    steps = ReadSteps().read(keys.pop("clean", ALL), "clean")
    keys = {"source": str(source), "name": name, "folder": str(source.parent / "data"), "tokenizer": "byte"} | keys
    return prepare(PrepareConfig(clean=steps, **keys), say=say)


def test_the_folder_says_what_was_dropped_and_by_which_recipe(source):
    said: list[str] = []
    path = prepared(source, say=said.append)
    meta, tally = read_meta(path / "meta.json"), json.loads((path / "cleaning.json").read_text())
    assert meta.cleaning["hash"] == tally["recipe_hash"]
    assert meta.cleaning["steps"] == tally["recipe"]
    assert list(meta.cleaning["steps"]) == list(ALL)
    assert f"clean={tally['recipe_hash']}" in meta.made
    assert "left out" in meta.split
    assert tally["steps"]["length"]["dropped"] == 14
    page = (path / "cleaning.md").read_text()
    assert "| `length` | 120 | 14 |" in page
    assert "## Dropped by `near_duplicates`" in page
    assert any("fewer than 200 characters (14)" in line for line in said)
    assert any("dropped by length, " in line for line in said)
    assert not list(path.parent.glob(".*cleaning*"))
    assert meta.train.bytes + meta.val.bytes >= tally["after"]["bytes"]


def test_what_is_prepared_does_not_depend_on_the_number_of_processes(source):
    one, two = prepared(source, "one", workers=1), prepared(source, "two", workers=2)
    for file in ("train.bin", "val.bin", "cleaning.json", "cleaning.md"):
        assert (one / file).read_bytes() == (two / file).read_bytes()


def test_val_is_the_same_with_and_without_the_documents_that_leak_it(source):
    without = prepared(source, "without", clean={label: step for label, step in ALL.items() if label != "leakage"})
    path = prepared(source)
    assert (path / "val.bin").read_bytes() == (without / "val.bin").read_bytes()
    assert (path / "train.bin").stat().st_size < (without / "train.bin").stat().st_size


def test_the_same_again_changes_nothing_and_another_recipe_is_other_data(source):
    path = prepared(source)
    before = (path / "meta.json").stat().st_mtime_ns
    prepared(source)
    assert (path / "meta.json").stat().st_mtime_ns == before
    with pytest.raises(UserError, match=r"already there, prepared with tokenizer=byte val_fraction=0\.1 clean="):
        prepared(source, clean={"length": {}})
    prepared(source, clean={}, overwrite=True)
    assert not (path / "cleaning.json").exists()
    assert not (path / "cleaning.md").exists()
    assert read_meta(path / "meta.json").cleaning is None


def test_a_failure_leaves_nothing(source):
    with pytest.raises(UserError, match="nothing is left of 120 documents"):
        prepared(source, clean={"length": {"min_characters": 10**6}})
    assert list((source.parent / "data").iterdir()) == [] or not list((source.parent / "data").glob("texts*"))


def test_the_cleaned_text_is_trained_on(source):
    path = prepared(source)
    dataset = open_dataset("texts", str(path.parent), block_size=16)
    text = dataset.tokenizer.decode(np.concatenate([dataset.train, dataset.val]))
    assert "example.org" not in text
    assert "<EMAIL>" in text


def test_tokens_are_not_cleaned(source):
    path = prepared(source)
    with pytest.raises(UserError, match=r"clean: .* holds tokens, and it is text that is cleaned"):
        prepare(
            PrepareConfig(
                source=str(path), name="again", folder=str(path.parent), tokenizer_of=str(path),
                clean=ReadSteps().read({"length": {}}, "clean"),
            ),
            say=lambda line: None,
        )  # fmt: skip


def command(monkeypatch, capsys, *arguments: str) -> tuple[int, str]:
    from minigpt.cli.prepare import main

    monkeypatch.setattr(sys, "argv", ["data/prepare.py", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    output = capsys.readouterr()
    return int(ended.value.code or 0), output.out + output.err


def test_the_command_line_chooses_a_file_and_changes_its_options(source, monkeypatch, capsys):
    keys = (f"source={source}", "name=texts", f"folder={source.parent / 'data'}", "tokenizer=byte")
    code, said = command(monkeypatch, capsys, *keys, "clean=dedup", "clean.near_duplicates.threshold=0.95")
    assert code == 0, said
    steps = read_meta(source.parent / "data" / "texts" / "meta.json").cleaning["steps"]
    assert list(steps) == ["duplicates", "near_duplicates", "leakage"]
    assert steps["near_duplicates"]["threshold"] == 0.95
    own = source.with_name("mine.yaml")
    own.write_text("length: {min_words: 3}\nduplicates:\n")
    code, said = command(monkeypatch, capsys, *keys, f"clean={own}", "overwrite=true")
    assert code == 0, said
    assert list(read_meta(source.parent / "data" / "texts" / "meta.json").cleaning["steps"]) == ["length", "duplicates"]
    for given, message in (
        (["clean=length"], "there is no clean named 'length'"),
        (["clean=wbe"], "there is no clean named 'wbe'. Did you mean 'web'"),
        (
            ["clean=web", "clean.length.min_chars=5"],
            "'length' has no option 'min_chars'. Did you mean 'min_characters'",
        ),
        (["clean=web", "clean.lenght.min_words=5"], "there is no clean named 'lenght'. Did you mean 'length'"),
        (["plugins=[x]"], "x"),
    ):
        code, said = command(monkeypatch, capsys, *keys, *given)
        assert code == 2
        assert message in said
