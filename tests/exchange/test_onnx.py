"""ONNX: what onnxruntime makes of an exported model is what the model makes, for every registered part."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from minigpt import registry
from minigpt.cli.console import main
from minigpt.data.bpe import train_bpe
from minigpt.data.hf_files import read_tokenizer
from minigpt.data.tiktoken_bpe import TiktokenTokenizer
from minigpt.data.tokenizers import ByteTokenizer, CharTokenizer
from minigpt.errors import UserError
from minigpt.exchange import onnx_export
from minigpt.exchange.onnx_export import export_onnx
from minigpt.exchange.trained import TrainedModel
from minigpt.generation.config import Sampling
from minigpt.generation.decoding import generate
from minigpt.model import GPT
from minigpt.model.checkpoint import save_checkpoint
from minigpt.model.spec import ModelSpec
from minigpt.schema import typed
from minigpt.testing import Case, cases_of, make_spec

onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
pytest.importorskip("onnxscript", reason="onnxscript is not installed")

CHARACTERS = CharTokenizer("\n abcdefghijklmnopqrstuvwxyz")
AXES = [axis for scope in ("block", "model") for axis in registry.axes(scope) if axis != "init"]
ALL = os.environ.get("ONNX_PARTS") == "all"
DRAW = random.Random(os.environ.get("PAIRINGS_SEED", "0"))
TRIED = {
    axis: registry.names(axis) if ALL else sorted(DRAW.sample(registry.names(axis), min(3, len(registry.names(axis)))))
    for axis in (AXES if ALL else DRAW.sample(AXES, 3))
}
"""Exporting takes seconds a model: every day three names of three axes are tried; ONNX_PARTS=all tries them all."""
LEAN = {"activation": {"layout": "mlp_only"}} | {key: {"layout": "attention_only"} for key in ("softmax", "position")}
"""Axis -> what keeps a layer that is there for it short."""


def models(axis: str) -> list[ModelSpec]:
    """One model with a layer for each variant that is tried, and one for each that does not go together with those."""
    together: list[ModelSpec] = []
    alone: list[ModelSpec] = []
    for name in TRIED[axis]:
        case = next(case for case in cases_of(axis, name) if case.is_default)
        lean = case if json.loads(case.surroundings) else Case.of(axis, name, {"with": LEAN.get(axis, {})})
        spec = lean.spec(n_layer=1, vocab_size=CHARACTERS.vocab_size)
        try:
            model = GPT.on_meta(joined([*together, spec]))
            if not all(getattr(part, "compiles", True) for part in model.modules()):
                raise UserError("torch cannot export it")
            together.append(spec)
        except UserError:
            alone.append(case.spec(n_layer=1, vocab_size=CHARACTERS.vocab_size))
    return [*([joined(together)] if together else []), *alone]


def joined(specs: list[ModelSpec]) -> ModelSpec:
    """The blocks of models that are alike but for them, in one."""
    first = dataclasses.replace(specs[0], blocks=())
    if any(dataclasses.replace(spec, blocks=(), default=first.default) != first for spec in specs):
        raise UserError("they differ in more than their blocks")
    return dataclasses.replace(specs[0], n_layer=len(specs), blocks=tuple(spec.blocks[0] for spec in specs))


def trained(tokenizer=CHARACTERS, **axes) -> TrainedModel:
    return with_noise(make_spec(**{"n_layer": 1, "vocab_size": tokenizer.vocab_size} | axes), tokenizer)


def with_noise(spec: ModelSpec, tokenizer=CHARACTERS) -> TrainedModel:
    model = GPT.create(spec).eval()
    noise = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=noise), alpha=0.1)
    return TrainedModel(model, tokenizer, {"step": 3, "val_loss": 1.5, "files": {}}, Path("out/run"))


def logits(folder: Path, tokens) -> np.ndarray:
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    return session.run(None, {"tokens": np.asarray(tokens, dtype=np.int64)})[0]


@pytest.mark.parametrize("axis", TRIED)
def test_every_part_computes_the_same_logits_in_onnxruntime(axis, tmp_path):
    found = models(axis)
    assert sum(spec.n_layer for spec in found) == len(TRIED[axis])
    for number, spec in enumerate(found):
        model, folder = with_noise(spec), tmp_path / str(number)
        if not all(getattr(part, "compiles", True) for part in model.model.modules()):
            with pytest.raises(UserError, match="torch cannot export this model"):
                export_onnx(model, folder)
            continue
        export_onnx(model, folder)
        for rows, length in ((1, 1), (2, 5), (3, 16)):
            tokens = torch.randint(0, 28, (rows, length), generator=torch.Generator().manual_seed(rows))
            with torch.no_grad():
                expected = model.model(tokens).logits.numpy()
            atol = 0.02 if axis in ("linear", "quantiser") else 1e-4  # a last bit decides to which side it rounds
            np.testing.assert_allclose(logits(folder, tokens), expected, atol=atol, err_msg=str(spec.blocks))


@pytest.mark.parametrize("axes", [{"activation": {"name": "pfla", "per_channel": True}}, {"softmax": "pfla"}], ids=str)
def test_a_search_for_the_piece_an_input_lies_in_is_written_as_comparisons(axes, tmp_path):
    model, tokens = trained(**axes), torch.arange(32).view(2, 16) % 28
    export_onnx(model, tmp_path / "onnx")
    with torch.no_grad():
        np.testing.assert_allclose(logits(tmp_path / "onnx", tokens), model.model(tokens).logits.numpy(), atol=1e-4)


def test_the_command_writes_a_folder_that_decodes_to_the_same_tokens(tmp_path, capsys):
    model = trained(n_layer=3, attention={"name": "causal", "n_kv_head": 2, "window": 9})
    place = tmp_path / "run" / "checkpoint" / "best"
    save_checkpoint(place, model.model, tokenizer=CHARACTERS.to_json(), meta={"step": 3, "val_loss": 1.5})
    with pytest.raises(SystemExit, match="0"):
        main(["export", f"checkpoint={tmp_path / 'run'}", "format=onnx", f"out={tmp_path / 'onnx'}"])
    assert "tried with onnxruntime" in capsys.readouterr().out
    prompt = CHARACTERS.encode("abc").tolist()
    chosen = list(prompt)
    for _ in range(13):
        chosen.append(int(logits(tmp_path / "onnx", [chosen])[0, -1].argmax()))
    (own,) = generate(model.model, [prompt], 13, Sampling(temperature=0))
    assert chosen[3:] == own.tokens
    about = json.loads((tmp_path / "onnx" / "model.json").read_text())
    assert typed(ModelSpec, about["model"]) == model.model.spec
    assert about["meta"]["val_loss"] == 1.5
    assert read_tokenizer(tmp_path / "onnx").hash == CHARACTERS.hash


@pytest.mark.parametrize(
    "tokenizer",
    [ByteTokenizer(), train_bpe(["some text " * 9], 270)],
    ids=["byte", "bpe"],
)
def test_the_tokenizer_comes_along(tokenizer):
    files = onnx_export._tokenizer_files(tokenizer)
    assert set(files) == {"tokenizer.json", "tokenizer_config.json"}


def test_a_tokenizer_that_no_other_library_follows_comes_along_as_it_is():
    ranks = train_bpe(["some text " * 9], 270).ranks
    odd = TiktokenTokenizer("odd", r"(?i:x)++|\s++(?!\S)|[^\s]++|\s++", ranks, {})
    files = onnx_export._tokenizer_files(odd)
    assert "tokenizer.json" in files


def test_a_graph_that_is_not_the_model_is_not_written(tmp_path, monkeypatch):
    model, real = trained(), onnx_export._graph
    other = trained(seed=7)
    monkeypatch.setattr(onnx_export, "_graph", lambda _: real(other.model))
    with pytest.raises(UserError, match=r"the graph's logits are off by"):
        export_onnx(model, tmp_path / "onnx")
    assert list(tmp_path.iterdir()) == []


def test_what_torch_cannot_export_is_refused_in_one_line(tmp_path, monkeypatch):
    model = trained()
    monkeypatch.setattr(type(model.model.head), "forward", lambda self, x, call: x if x.sum() > 0 else -x)
    with pytest.raises(UserError, match="torch cannot export this model") as refused:
        export_onnx(model, tmp_path / "onnx")
    assert len(str(refused.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "onnx").mkdir()
    with pytest.raises(UserError, match="is not overwritten"):
        export_onnx(trained(), tmp_path / "onnx")


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_without_a_package_the_extra_is_named(package, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=r"pip install 'minigpt\[export\]'"):
        export_onnx(trained(), tmp_path / "onnx")
