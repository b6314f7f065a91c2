"""Files of tokens that change under their readers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from minigpt.data import token_file
from minigpt.data.dataset import open_dataset
from minigpt.errors import UserError

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


def replace_with_another(file: Path) -> None:
    new = file.with_suffix(".new")
    new.write_bytes(b"\xff" * file.stat().st_size)
    os.replace(new, file)


def test_tokens_are_the_same_however_they_are_held(make, held):
    dataset = open_dataset("verse", make().parent, block_size=16)
    batch = dataset.train_batch(3, 4, 16, 0)
    assert batch.inputs.dtype.itemsize == 8
    text = np.fromfile(make().parent / "verse" / "train.bin", dtype=np.uint16)
    assert (dataset.train == text).all()
    assert dataset.tokenizer.decode(batch.inputs[0]) in dataset.tokenizer.decode(text)


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("change", [shorten, overwrite, replace_with_another])
def test_a_file_that_changes_is_noticed_or_makes_no_difference(make, held, change, split):
    """In memory nothing can reach the tokens; of a mapped file, a replaced one goes on to be the old one."""
    path = make()
    dataset = open_dataset("verse", path.parent, block_size=16)
    draw = lambda: [dataset.train_batch(0, 64, 16, 0), *dataset.val_batches(4, 16)]  # noqa: E731
    before = draw()
    change(path / f"{split}.bin")
    if held == "mapped" and change is not replace_with_another:
        with pytest.raises(UserError, match=rf"{split}\.bin: was changed while a run was reading it.*resume the run"):
            draw()
    else:
        assert all((one.inputs == other.inputs).all() for one, other in zip(before, draw(), strict=True))


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
token_file.IN_MEMORY = 0
sys.argv[1:] = [
    "data.name=verse", "data.folder=data", "device=cpu", "model.d_model=16", "model.n_layer=1", "model.block_size=16",
    "training.max_steps=1000000", "training.eval_interval=20", "training.threads=1", "name=run",
]
from train import main
main()
"""


def test_a_run_whose_data_are_shortened_ends_with_the_files_name_and_no_signal(make, tmp_path):
    from minigpt.training.record import read_run

    path = make()
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", TRAIN], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    while not (tmp_path / "out" / "run" / "checkpoint" / "last").exists():
        assert process.poll() is None, process.stderr.read()
    os.truncate(path / "train.bin", 10)
    assert process.wait(60) == 2
    assert "train.bin: was changed while a run was reading it" in process.stderr.read()
    record = read_run(tmp_path / "out" / "run")
    assert record.status == "failed"
    assert "train.bin" in record.reason
