"""What is found below a folder: three kinds of checkpoints and whatever else lies there, all by their heads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from minigpt.model import GPT
from minigpt.model.checkpoint import save_checkpoint
from minigpt.report.listing import Entry, Listing, differing, flat
from minigpt.report.listing_table import Shown, as_table
from minigpt.testing import make_spec
from minigpt.training.record import RunRecord


def by_name(folder: Path, which=None) -> dict[str, Entry]:
    return {entry.name: entry for entry in Listing(folder, which).entries()}


def make_nanogpt(file: Path, **more) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    weight = torch.randn(10, 4)
    sizes = {"n_layer": 2, "n_head": 1, "n_embd": 4, "block_size": 8, "bias": False, "vocab_size": 10, "dropout": 0.0}
    model = {"_orig_mod.transformer.wte.weight": weight, "_orig_mod.lm_head.weight": weight}
    content = {"model": model, "model_args": sizes, "iter_num": 7, "best_val_loss": torch.tensor(1.5), "config": {}}
    torch.save(content | more, file)


def make_huggingface(folder: Path, **more) -> None:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 8}))
    save_file({"a": torch.zeros(3, 8)}, folder / "model.safetensors")


@pytest.fixture
def model() -> GPT:
    return GPT.create(make_spec(n_layer=1))


def make_run(folder: Path, model: GPT, losses: dict[str, float]) -> RunRecord:
    folder.mkdir(parents=True)
    record = RunRecord(
        name=folder.name, status="completed", config_hash="x", seed=0, val_loss=2.0, bits_per_byte=3.0, folder=folder
    )
    record.write()
    (folder / "config.yaml").write_text("model: {d_model: 32}\nsoftmax: {name: consmax, beta_init: 2.5}\nout: out\n")
    for step, (name, loss) in enumerate(losses.items()):
        meta = {"step": step, "val_loss": loss}
        save_checkpoint(folder / "checkpoint" / name, model, tokenizer={}, meta=meta)
    return record


def test_every_kind_is_found_and_what_is_none_is_listed_with_its_reason(tmp_path, model):
    make_run(tmp_path / "sweep" / "a", model, {"best": 1.0, "last": 2.0})
    save_checkpoint(tmp_path / "bare", model, tokenizer={}, meta={"step": 5, "val_loss": 1.25})
    make_nanogpt(tmp_path / "nano" / "ckpt.pt")
    make_huggingface(tmp_path / "hub")
    (tmp_path / "notes.txt").write_text("no checkpoint")
    (tmp_path / "torn.pt").write_bytes(b"PK\x03\x04")
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    torch.save({"weight": torch.zeros(2)}, tmp_path / "weights.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text('{"model_type": "gpt2"}')
    (tmp_path / "broken" / "generation_config.json").write_text("{}")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "x.pt").write_bytes(b"")
    found = by_name(tmp_path)
    assert {name: entry.kind for name, entry in found.items()} == {
        "sweep/a": "run", "bare": "checkpoint", "nano/ckpt.pt": "nanogpt", "hub": "huggingface",
        "torn.pt": "unreadable", "model.gguf": "unreadable", "weights.pt": "unreadable", "list.pt": "unreadable",
        "broken": "unreadable",
    }  # fmt: skip
    assert found["sweep/a"].values["checkpoints"] == "best 0, last 1"
    assert found["bare"].values["parameters"] == model.parameter_count()
    assert found["bare"].configuration["model.d_model"] == model.spec.d_model
    nano = found["nano/ckpt.pt"]
    assert (nano.values["parameters"], nano.values["step"], nano.values["val_loss"]) == (40, 7, 1.5)
    assert nano.configuration["model.n_layer"] == found["hub"].configuration["model.n_layer"] == 2
    assert found["hub"].values["parameters"] == 24
    reasons = {name: entry.reason for name, entry in found.items() if entry.kind == "unreadable"}
    assert "GGUF" in reasons["model.gguf"]
    assert "1 tensors (weight, ...) that does not say which model" in reasons["weights.pt"]
    assert "holds a list" in reasons["list.pt"]
    assert "no weights" in reasons["broken"]
    assert all(not reason.startswith(str(tmp_path)) for reason in reasons.values())


def test_best_and_last_are_listed_with_their_own_figures(tmp_path, model):
    make_run(tmp_path / "a", model, {"best": 1.0, "last": 2.0})
    make_run(tmp_path / "b", model, {"last": 4.0})
    assert list(by_name(tmp_path, "best")) == ["a/checkpoint/best"]
    assert list(by_name(tmp_path, "all")) == ["a/checkpoint/best", "a/checkpoint/last", "b/checkpoint/last"]
    best = by_name(tmp_path, "best")["a/checkpoint/best"]
    assert (best.values["val_loss"], best.values["bits_per_byte"], best.values["step"]) == (1.0, 1.5, 0)
    assert best.configuration["softmax"] == "consmax"


def test_a_torn_checkpoint_is_said_of_its_run(tmp_path, model):
    make_run(tmp_path / "a", model, {"best": 1.0, "last": 2.0})
    weights = tmp_path / "a" / "checkpoint" / "best" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    run = by_name(tmp_path)["a"]
    assert run.values["checkpoints"] == "best torn, last 1"
    assert "checkpoint/best: model.safetensors is torn" in run.reason
    assert by_name(tmp_path, "best")["a/checkpoint/best"].kind == "unreadable"


@pytest.mark.parametrize("name", ["run.json", "config.json", "meta.json"])
@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b"[]", b"{}", b"[" * 10**5, b'{"format": 1e999}', b'{"files": 3}']
)
def test_no_file_stops_the_others(tmp_path, name, content):
    make_huggingface(tmp_path / "good")
    make_huggingface(tmp_path / "bad")
    if name != "config.json":
        (tmp_path / "bad" / "config.json").unlink()
    (tmp_path / "bad" / name).write_bytes(content)
    found = by_name(tmp_path)
    assert found["good"].kind == "huggingface"
    assert found["bad"].kind == "unreadable"
    assert found["bad"].reason


@pytest.mark.parametrize(
    "more", [{"model": 3}, {"model_args": []}, {"best_val_loss": "low"}, {"iter_num": {}}, {"config": []}, {3: 4}]
)
def test_a_torch_file_with_other_things_in_it_is_read_as_far_as_it_goes(tmp_path, more):
    make_nanogpt(tmp_path / "ckpt.pt", **{str(k): v for k, v in more.items()})
    (entry,) = Listing(tmp_path).entries()
    assert entry.kind == ("unreadable" if {"model", "model_args"} & set(more) else "nanogpt")


def test_links_to_folders_are_not_followed(tmp_path, model):
    make_run(tmp_path / "real" / "a", model, {})
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "loop").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "out" / "b").mkdir()
    (tmp_path / "out" / "b" / "run.json").symlink_to(tmp_path / "real" / "a" / "run.json")
    found = by_name(tmp_path / "out")
    assert list(found) == ["b"]
    assert "is a link" in found["b"].reason


def entry(**configuration) -> Entry:
    return Entry("x", "run", Path(), configuration={k.replace("__", "."): v for k, v in configuration.items()})


def test_only_what_tells_configurations_apart_differs():
    a = entry(softmax="softmax", optimizer__lr=1e-3, model__d_model=8, seed=0)
    b = entry(softmax="consmax", softmax__beta_init=2.5, optimizer__lr=1e-3, model__d_model=8, seed=1)
    c = entry(softmax="consmax", softmax__beta_init=1.5, optimizer__lr=1e-3, model__d_model=8, seed=0)
    assert differing([a, b]) == ["softmax", "seed"]  # an option that comes with its name says nothing more
    assert differing([b, c]) == ["softmax.beta_init", "seed"]
    assert differing([a, c]) == ["softmax"]
    assert differing([a, a]) == []
    assert differing([a, entry(model__d_model=16)]) == ["model.d_model"]


def test_a_configuration_is_flat_and_says_nothing_of_where_it_runs():
    content = {
        "data": {"name": "pydocs"}, "attention": {"name": "causal", "window": None}, "out": "x", "name": "y",
        "blocks": {"local": {"attention": {"name": "causal", "window": 8}}}, "pattern": ["local", "default"],
        "transforms": [{"name": "lora"}], "training": {"threads": 1, "max_steps": 3},
    }  # fmt: skip
    assert flat(content) == {
        "data.name": "pydocs", "attention": "causal", "attention.window": None, "training.max_steps": 3,
        "blocks": "{local: {attention: {name: causal, window: 8}}}", "pattern": "[local, default]",
        "transforms": "[lora]",
    }  # fmt: skip


def scored(name: str, scores: dict[str, float], **values) -> Entry:
    record = RunRecord(name=name, status="completed", config_hash="0", seed=0, scores=scores)
    return Entry(name, "run", Path(), "completed", values=values | scores, record=record)


def test_titles_tell_scores_apart():
    suite = {"suite_pairs.acc": 0.5, "suite_words.acc": 0.25, "suite_text.bits_per_byte": 2.0, "suite_text.byte_x": 3.0}
    head = as_table(Shown([scored("a", suite)], [], 0, "out", None), 200)[0]
    assert head.split() == ["name", "status", "pairs.acc", "words.acc", "text.bits_per_byte", "text.byte_x"]
    alike = {f"a_{'x' * 30}{i}{'y' * 30}.acc": 1.0 for i in range(2)}
    head = as_table(Shown([scored("a", alike)], [], 0, "out", None), 300)[0].split()
    assert len(set(head)) == len(head) == 4
    assert as_table(Shown([scored("a", {"suite_pairs.acc": 1.0})], [], 0, "out", None), 80)[0].split()[2] == (
        "suite_pairs.acc"
    )


def test_a_price_that_was_asked_for_comes_before_scores():
    scores = {f"task{i}.acc": 0.5 for i in range(20)}
    price = {"energy_mj": 0.1, "latency_ms": 0.2, "area_mm2": 3.0}
    head = as_table(Shown([scored("a", scores, **price)], [], 0, "out", None), 80)[0]
    assert {"mJ/token", "ms/token", "mm2"} <= set(head.split())
