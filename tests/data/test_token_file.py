"""Files of tokens that change under their readers."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from minigpt import config
from minigpt.config import TrainConfig, load_yaml
from minigpt.data import token_file
from minigpt.data.dataset import open_dataset
from minigpt.data.token_file import DataChangedError
from minigpt.errors import UserError
from minigpt.training.fit import fit
from minigpt.training.record import read_run

ROOT = Path(__file__).parents[2]


@pytest.fixture(params=["in memory", "mapped"])
def held(request, monkeypatch) -> str:
    if request.param == "mapped":
        monkeypatch.setattr(token_file, "IN_MEMORY", 0)
    return request.param


def shorten(file: Path) -> None:
    os.truncate(file, 100)


def overwrite(file: Path) -> None:
    with file.open("r+b") as stream:
        stream.write(b"\xff" * file.stat().st_size)


def rename_another_over_it(file: Path) -> None:
    new = file.with_suffix(".new")
    new.write_bytes(b"\0" * file.stat().st_size)
    os.replace(new, file)


def move_away(file: Path) -> None:
    file.rename(file.with_suffix(".old"))


def take_the_folder_away(file: Path) -> None:
    file.parent.rename(file.parent.with_name("elsewhere"))


WORDS = {
    shorten: "was shortened", overwrite: "was changed", rename_another_over_it: "was replaced",
    move_away: "was deleted", take_the_folder_away: "was deleted", Path.unlink: "was deleted",
}  # fmt: skip


def drawn(dataset) -> list:
    return [dataset.train_batch(0, 64, 16, 0), *dataset.val_batches(4, 16)]


def test_tokens_are_the_same_however_they_are_held(make, held):
    dataset = open_dataset("verse", make().parent, block_size=16)
    batch = dataset.train_batch(3, 4, 16, 0)
    assert batch.inputs.dtype.itemsize == 8
    text = np.fromfile(make().parent / "verse" / "train.bin", dtype=np.uint16)
    assert (dataset.train == text).all()
    assert dataset.tokenizer.decode(batch.inputs[0]) in dataset.tokenizer.decode(text)
    last = np.array([len(text) - 17, 0])
    windows = dataset.train_windows(last, 16)
    assert (windows == np.stack([text[-17:], text[:17]])).all()


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("change", WORDS, ids=lambda change: change.__name__)
def test_a_file_that_changes_is_noticed_before_a_token_of_it_is_read(make, held, change, split):
    path = make()
    dataset = open_dataset("verse", path.parent, block_size=16)
    drawn(dataset)
    change(path / f"{split}.bin")
    with pytest.raises(DataChangedError, match=rf"(train|val)\.bin: {WORDS[change]} while a run was reading") as found:
        drawn(dataset)
    assert "\n" not in str(found.value)
    assert "Prepare the dataset as it was, then resume the run" in str(found.value)


def test_the_same_content_put_back_makes_no_difference_to_what_is_held_in_memory(make):
    path = make()
    dataset = open_dataset("verse", path.parent, block_size=16)
    before = drawn(dataset)
    os.utime(path / "train.bin")
    new = path / "val.new"
    new.write_bytes((path / "val.bin").read_bytes())
    os.replace(new, path / "val.bin")
    assert all((one.inputs == other.inputs).all() for one, other in zip(before, drawn(dataset), strict=True))


def test_a_file_that_gets_shorter_between_the_look_and_the_read_is_no_signal(make, monkeypatch):
    monkeypatch.setattr(token_file, "IN_MEMORY", 0)
    path = make()
    dataset = open_dataset("verse", path.parent, block_size=16)
    monkeypatch.setattr(token_file.TokenFile, "_look", lambda self: None)
    os.truncate(path / "train.bin", 0)
    with pytest.raises(DataChangedError, match=r"train\.bin: was shortened"):
        dataset.train_batch(0, 4, 16, 0)


def test_a_token_outside_the_vocabulary_in_a_file_too_large_to_check_is_named(make, monkeypatch):
    from minigpt.data import dataset_folder

    monkeypatch.setattr(token_file, "IN_MEMORY", 0)
    monkeypatch.setattr(dataset_folder, "SMALL", 0)
    path = make()
    tokens = np.fromfile(path / "train.bin", dtype=np.uint16)
    tokens[:] = 60_000
    tokens.tofile(path / "train.bin")
    dataset = open_dataset("verse", path.parent, block_size=16)
    with pytest.raises(UserError, match=r"train\.bin: .*token 60000 is outside the vocabulary"):
        dataset.train_batch(0, 4, 16, 0)


TRAIN = """
import sys
from minigpt.data import token_file
if sys.argv.pop(1) == "mapped":
    token_file.IN_MEMORY = 0
from train import main
main()
"""
SMALL = [
    "data.name=verse", "data.folder=data", "device=cpu", "model.d_model=16", "model.n_layer=1", "model.block_size=16",
    "training.eval_interval=20", "training.threads=1",
]  # fmt: skip


def start(folder: Path, held: str, *arguments: str) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", TRAIN, held, *SMALL, *arguments],
        cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_a_run_under_which_its_data_change_ends_interrupted_with_one_line_and_goes_on(make, tmp_path):
    path = make()
    process = start(tmp_path, "mapped", "name=run", "training.max_steps=1000000")
    while not (tmp_path / "out" / "run" / "checkpoint" / "last").exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    shorten(path / "train.bin")
    assert process.wait(60) == 2
    said = process.stderr.read().strip().splitlines()
    assert len(said) == 1
    assert "train.bin: was " in said[0]
    record = read_run(tmp_path / "out" / "run")
    assert record.status == "interrupted"
    assert record.reason == said[0]

    whole = record.steps + 20
    stored = load_yaml(record.folder / "config.yaml") | {"resume": str(record.folder)}
    stored["data"]["folder"] = str(path.parent)
    stored["training"]["max_steps"] = whole
    run = config.check(stored, TrainConfig)
    with pytest.raises(UserError, match=r"Prepare it again: python data/prepare\.py source=<text> name=verse"):
        fit(run)
    assert read_run(record.folder).status == "interrupted"
    make(overwrite=True)
    assert fit(run).status == "completed"


def test_in_a_sweep_the_trial_is_interrupted_and_the_same_command_trains_it(make, tmp_path):
    """The data of a sweep are replaced in its first trial; prepared as they were, and not before, the same command
    comes to its end."""
    path = make()
    command = ("held", "-m", "seed=1,2", "study=sweep", "training.max_steps=800", "training.log_interval=10")
    process = start(tmp_path, *command)
    while not (logs := list((tmp_path / "out").glob("sweep/*/metrics.jsonl"))) or not logs[0].stat().st_size:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    rename_another_over_it(path / "train.bin")
    process.wait(120)
    records = [read_run(file.parent) for file in sorted((tmp_path / "out" / "sweep").glob("*/run.json"))]
    assert [record.status for record in records] == ["interrupted"] * 2, [record.reason for record in records]
    assert {"was replaced while a run was reading it" in record.reason for record in records} == {True, False}
    make(overwrite=True, text="other text of no use for it " * 100)
    process = start(tmp_path, *command)
    assert process.wait(120) == 2
    assert "' was trained on other data" in process.stderr.read()
    make(overwrite=True)
    assert start(tmp_path, *command).wait(120) == 0
    assert [read_run(record.folder).status for record in records] == ["completed"] * 2
