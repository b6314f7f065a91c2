import subprocess
import sys
from pathlib import Path

import pytest
import torch

from minigpt.data.dataset import open_dataset
from minigpt.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def dataset(make):
    path = make(tokenizer="byte")
    return open_dataset("verse", str(path.parent), block_size=16)


def test_targets_of_a_train_batch_are_the_tokens_after_its_inputs(dataset):
    batch = dataset.train_batch(step=0, batch_size=5, block_size=16, seed=0)
    assert batch.inputs.shape == batch.targets.shape == (5, 16)
    assert batch.inputs.dtype == batch.targets.dtype == torch.int64
    train = dataset.train.astype("uint8").tobytes()
    for inputs, targets in zip(batch.inputs, batch.targets, strict=True):
        assert torch.equal(inputs[1:], targets[:-1])
        assert bytes([*inputs.tolist(), int(targets[-1])]) in train


def test_a_train_batch_depends_on_seed_and_step_alone(dataset, make):
    again = open_dataset("verse", str(make(tokenizer="byte").parent), block_size=16)
    for _ in range(3):
        dataset.train_batch(step=99, batch_size=4, block_size=16, seed=1)
    one, same = (d.train_batch(step=7, batch_size=4, block_size=16, seed=1) for d in (dataset, again))
    assert torch.equal(one.inputs, same.inputs)
    assert torch.equal(one.targets, same.targets)
    for step, seed in ((8, 1), (7, 2)):
        assert not torch.equal(one.inputs, dataset.train_batch(step, 4, 16, seed).inputs)


def test_train_batches_leave_torchs_generator_alone(dataset):
    before = torch.get_rng_state()
    dataset.train_batch(step=0, batch_size=4, block_size=16, seed=0)
    assert torch.equal(before, torch.get_rng_state())


def test_every_place_of_the_train_split_is_drawn(make):
    path = make(text="abcdefghij" * 2, tokenizer="byte", val_fraction=0.5)
    dataset = open_dataset("verse", str(path.parent), block_size=8)
    starts = {dataset.train_batch(step, 4, 8, seed=0).inputs[i, 0].item() for step in range(50) for i in range(4)}
    assert starts == {ord("a"), ord("b")}  # 10 tokens hold two windows of 8 + 1


@pytest.mark.parametrize(
    ("batch_size", "block_size"), [(1, 16), (3, 16), (4, 7), (1000, 5), (2, 1), (1, 291), (1, 296)]
)
def test_val_batches_make_every_token_but_the_first_a_target_once_in_order(dataset, batch_size, block_size):
    batches = list(dataset.val_batches(batch_size, block_size))
    targets = torch.cat([batch.targets.flatten() for batch in batches])
    inputs = torch.cat([batch.inputs.flatten() for batch in batches])
    val = torch.from_numpy(dataset.val.astype("int64"))
    assert torch.equal(targets, val[1:])
    assert torch.equal(inputs, val[:-1])
    assert all(batch.inputs.shape[0] <= batch_size for batch in batches)
    assert all(batch.inputs.shape[1] == block_size for batch in batches[:-1])


def test_val_tokens_cuts_the_validation_split(make):
    folder = str(make(tokenizer="byte").parent)
    whole = open_dataset("verse", folder, block_size=16)
    cut = open_dataset("verse", folder, block_size=16, val_tokens=40)
    assert len(cut.val) == 40
    assert (cut.val == whole.val[:40]).all()
    assert sum(batch.targets.numel() for batch in cut.val_batches(2, 16)) == 39
    assert cut.hash == whole.hash


def test_target_bytes_are_the_bytes_of_the_text_the_targets_stand_for(make, verse, ranks_file):
    cut = int(len(verse) * 0.9)
    for kind in ("char", "byte", "tiktoken"):
        path = make(name=kind, tokenizer=kind, **({"encoding": str(ranks_file)} if kind == "tiktoken" else {}))
        dataset = open_dataset(kind, str(path.parent), block_size=16)
        total = sum(dataset.target_bytes(batch.targets) for batch in dataset.val_batches(4, 16))
        first = len(dataset.tokenizer.decode(dataset.val[:1]).encode())
        assert total == len(verse[cut:].encode()) - first


@pytest.mark.parametrize(
    ("block_size", "val_tokens", "message"),
    [
        (292, None, "its val split has 292 tokens, shorter than the context: expected at least block_size \\+ 1 = 293"),
        (16, 10, "its val split has 10 tokens \\(cut by data.val_tokens=10\\)"),
        (5000, None, "its train split"),
    ],
)
def test_a_split_shorter_than_the_context_is_an_error_before_training(make, block_size, val_tokens, message):
    path = make(tokenizer="byte")
    with pytest.raises(UserError, match=message):
        open_dataset("verse", str(path.parent), block_size=block_size, val_tokens=val_tokens)


def test_the_built_in_dataset_is_prepared_on_the_spot_and_says_so(tmp_path, capsys):
    dataset = open_dataset("pydocs", str(tmp_path), block_size=128)
    output = capsys.readouterr()
    assert output.out == ""
    assert "written to" in output.err
    assert dataset.vocab_size == 96
    assert dataset.name == "pydocs"
    open_dataset("pydocs", str(tmp_path), block_size=128)
    assert capsys.readouterr().err == ""


def test_other_datasets_are_never_prepared_on_the_spot(tmp_path):
    with pytest.raises(UserError, match=r"python data/prepare.py dataset=shakespeare_char"):
        open_dataset("shakespeare_char", str(tmp_path), block_size=8)
    with pytest.raises(UserError, match=r"python data/prepare.py dataset=pydocs"):
        open_dataset("pydocs", str(tmp_path), block_size=8, prepare_builtin=False)
    assert list(tmp_path.iterdir()) == []


def test_preparing_and_tokenizing_do_not_import_torch():
    code = "import sys, minigpt.data.preparation, minigpt.data.tiktoken_bpe; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
