"""Training from another project's weights: its model without repeating it, a shorter context, what is refused."""

from __future__ import annotations

import json
import os
import shutil
import socket
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from minigpt import config, registry, schema
from minigpt.config import TrainConfig
from minigpt.data.preparation import PrepareConfig, prepare
from minigpt.data.tokenizers import CharTokenizer
from minigpt.errors import UserError
from minigpt.exchange import hub
from minigpt.exchange.opened import open_model
from minigpt.exchange.trained import load_trained
from minigpt.training.fit import fit
from minigpt.training.init_from import inherited
from minigpt.training.matching import outdated


@pytest.fixture(scope="module")
def letters(tmp_path_factory):
    """A dataset in the tokens of the small models."""
    from tests.exchange.families import VOCABULARY

    folder = tmp_path_factory.mktemp("data")
    (folder / "tokens").mkdir()
    (folder / "tokens" / "tokenizer.json").write_text(json.dumps(VOCABULARY.to_json()))
    text = "THEQUICKBROWNFOXJUMPSOVERTHELAZYDOG." * 200
    (folder / "text.txt").write_text(text)
    keys = {"source": str(folder / "text.txt"), "name": "letters", "folder": str(folder)}
    prepare(PrepareConfig(**keys, tokenizer_of=str(folder / "tokens")), say=lambda line: None)
    return folder


@pytest.fixture
def starting(letters, tmp_path):
    """starting(parent, *typed, **changes) -> a checked run of a few steps from the weights of ``parent``."""

    def starting(parent, *typed: str, **changes) -> TrainConfig:
        axes = {axis: {"name": registry.default(axis).name} for axis in registry.axes() if _has_default(axis)}
        content = schema.plain(config.check(axes, TrainConfig))
        content |= {"data": content["data"] | {"name": "letters", "folder": str(letters)}, "device": "cpu"}
        content |= {"out": str(tmp_path / "out"), "name": "child", "init_from": str(parent)}
        content["training"] |= {"max_steps": 2, "eval_interval": 2, "batch_size": 2, "precision": "fp32"}
        content["optimizer"] |= {"lr": 1e-6}
        for key, value in changes.items():
            content[key] = content[key] | value if isinstance(value, dict) else value
        return config.check(inherited(content, typed), TrainConfig)

    return starting


def _has_default(axis: str) -> bool:
    return registry.axis_named(axis).default is not None


def near(record, parent, rows: int | None = None) -> None:
    """After two tiny steps the weights are the parent's."""
    now = load_file(record.folder / "checkpoint" / "last" / "model.safetensors")
    tensors = open_model(parent).tensors
    for name, tensor in now.items():
        there = tensors.read(name)
        torch.testing.assert_close(tensor, there[: tensor.shape[0]].float(), atol=1e-4, rtol=0, msg=name)


@pytest.mark.parametrize("name", ["gpt2", "gemma2", "qwen3_windows", "gpt_neox"])
def test_a_run_starts_from_a_hugging_face_folder(name, theirs, starting):
    _, folder = theirs(name)
    run = starting(folder)
    assert (run.model.d_model, run.model.block_size, run.model.vocab_size) == (32, 32, 61)
    record = fit(run)
    near(record, folder)
    assert (record.parent, len(record.parent_hash)) == (str(folder), 64)


@pytest.mark.parametrize("name", ["gpt2", "mistral"])
def test_the_context_can_be_cut(name, theirs, starting):
    """A table of positions loses its end, a window that is longer than the context is none."""
    _, folder = theirs(name)
    record = fit(starting(folder, "model.block_size=6", model={"block_size": 6}))
    near(record, folder)
    assert load_trained(record.folder).model.spec.block_size == 6


def test_a_table_of_positions_cannot_grow(theirs, starting):
    with pytest.raises(UserError, match=r"init_from: .*block_size"):
        fit(starting(theirs("gpt2")[1], "model.block_size=64", model={"block_size": 64}))


def test_the_context_of_our_own_run_can_be_cut_too(theirs, starting):
    first = fit(starting(theirs("gpt2")[1]))
    second = fit(starting(first.folder, "model.block_size=8", model={"block_size": 8}, name="grandchild"))
    assert load_trained(second.folder).model.position.weight.shape == (8, 32)


def test_a_run_starts_from_nanogpt(starting, tmp_path):
    from tests.exchange.nanogpt import SIZES
    from tests.exchange.test_torch_checkpoints import checkpoint, write

    file = write(tmp_path / "nano" / "ckpt.pt", checkpoint(SIZES))
    record = fit(starting(file.parent))
    near(record, file)
    assert record.parent == str(file)


def test_other_tokens_and_another_model_are_refused(theirs, starting, tmp_path):
    from tests.exchange.families import make, save

    other = save(make("llama"), tmp_path / "other", CharTokenizer("".join(chr(point) for point in range(200, 261))))
    with pytest.raises(
        UserError,
        match=r"init_from: .*not those of dataset 'letters'.*\n.*Prepare the text .*tokenizer_of=.*other",
    ):
        fit(starting(other))
    with pytest.raises(UserError, match=r"init_from: .*d_model"):
        fit(starting(theirs("llama")[1], "model.d_model=64", model={"d_model": 64, "n_head": 4}))


def test_the_same_tokens_by_another_kind_of_tokenizer_are_the_same(tmp_path):
    from minigpt.data.bpe import train_bpe
    from minigpt.data.hf_files import to_huggingface
    from minigpt.data.hf_tokenizer import HuggingFaceTokenizer
    from minigpt.training.init_from import _same_tokens

    one = train_bpe(["the quick brown fox jumps over the lazy dog " * 50], 300)
    other = HuggingFaceTokenizer(to_huggingface(one))
    assert one.to_json() != other.to_json()
    assert _same_tokens(one, other)
    assert not _same_tokens(train_bpe(["a dog that sleeps over there " * 50], 300), other)


def test_a_record_is_no_result_any_more_when_the_files_have_changed(theirs, starting, tmp_path):
    folder = shutil.copytree(theirs("llama")[1], tmp_path / "model")
    record = fit(starting(folder))
    assert outdated(record, {}) == ""
    file = folder / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    os.utime(file, (1, 2**32))
    assert "are others now" in outdated(record, {})


@pytest.mark.parametrize("word", ["gpt2", "hf:somebody/something"])
def test_without_a_network_a_name_says_what_to_do(word, starting, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match=r"could not be downloaded .*init_from=<folder>") as error:
        starting(word)
    assert "\n" not in str(error.value)


@pytest.fixture
def cached(theirs, monkeypatch, tmp_path):
    """What the hub's library leaves behind: somebody/something, complete."""
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    model = tmp_path / "models--somebody--something"
    snapshot, blobs = model / "snapshots" / "abc", model / "blobs"
    for folder in (snapshot, blobs, model / "refs"):
        folder.mkdir(parents=True)
    (model / "refs" / "main").write_text("abc")
    for number, file in enumerate(sorted(theirs("llama")[1].iterdir())):
        shutil.copy(file, blobs / str(number))
        (snapshot / file.name).symlink_to(f"../../blobs/{number}")
    return snapshot


def test_what_was_downloaded_once_needs_no_network(cached, starting, monkeypatch):
    monkeypatch.setattr(socket, "socket", None)
    record = fit(starting("hf:somebody/something"))
    near(record, cached)
    assert record.parent == str(cached)


def test_an_interrupted_download_is_no_model(cached):
    (cached / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"no model\.safetensors"):
        hub._complete(cached)
    where = {"a": "part-1.safetensors", "b": "part-2.safetensors"}
    (cached / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    (cached / "part-1.safetensors").touch()
    with pytest.raises(UserError, match=r"no part-2\.safetensors"):
        hub._complete(cached)


@pytest.mark.parametrize("word", ["hf:", "hf:../../etc", "hf:a/b/c", "hf:-x/y", "hf:https://x/y"])
def test_a_name_is_an_owner_and_a_model(word):
    with pytest.raises(UserError, match="expected hf:<owner>/<name>"):
        hub.fetched(word)


def test_a_folder_of_that_name_is_what_is_meant(theirs, monkeypatch, tmp_path):
    shutil.copytree(theirs("gpt2")[1], tmp_path / "gpt2")
    monkeypatch.chdir(tmp_path)
    assert not hub.is_name("gpt2")
    assert open_model("gpt2").origin == "gpt2"
    assert Path("gpt2").is_dir()
