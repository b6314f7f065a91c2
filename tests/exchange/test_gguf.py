"""GGUF: what llama.cpp makes of an exported model is what the model makes; what it cannot make is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from minigpt.data.bpe import train_bpe
from minigpt.data.hf_files import to_huggingface
from minigpt.data.hf_tokenizer import HuggingFaceTokenizer
from minigpt.data.tiktoken_bpe import GPT2_PATTERN, TiktokenTokenizer
from minigpt.data.tokenizers import ByteTokenizer, CharTokenizer, from_json
from minigpt.errors import UserError
from minigpt.exchange.gguf_export import export_gguf
from minigpt.exchange.gguf_shapes import ARCHITECTURES
from minigpt.exchange.gguf_vocabulary import vocabulary
from minigpt.exchange.trained import TrainedModel
from minigpt.generation.config import Sampling
from minigpt.generation.decoding import generate
from minigpt.model import GPT
from minigpt.model.spec import ModelSpec
from minigpt.schema import typed
from minigpt.testing import make_spec
from tests.exchange.engines import ENGINES, greedy, llama_cpp_logits, llama_cpp_tokens, xllamacpp_next

gguf = pytest.importorskip("gguf", reason="gguf is not installed")

CHARACTERS = CharTokenizer("\n" + "".join(map(chr, range(32, 127))))
TEXT = "The quick naïve  façade costs €5: it's \\x41!\n"
GATED = {"mlp": "glu", "activation": "silu", "norm": "rmsnorm", "position": "rope"}
PLAIN = {"mlp": "mlp", "activation": "gelu_tanh", "norm": "layernorm"}
GROUPED = {"attention": {"name": "causal", "n_kv_head": 2}}
SHAPES = {
    "llama": GATED | GROUPED,
    "llama, biases, own head": GATED | {"bias": True, "tie_embeddings": False, "norm": {"name": "rmsnorm", "eps": 0.1}},
    "qwen3": GATED | {"attention": {"name": "causal", "n_kv_head": 2, "qk_norm": True}},
    "llama, biases of some, offset gains": GATED
    | {"norm": {"name": "rmsnorm", "unit_offset": True}}
    | {"sites": {"linear": {site: {"name": "linear", "bias": True} for site in "qkv"}}},
    "olmo2": GATED
    | {"layout": "res_post_norm"}
    | {"attention": {"name": "causal", "n_kv_head": 2, "qk_norm": True, "qk_norm_over": "heads"}},
    "gpt2": PLAIN | {"position": "learned", "bias": True},
    "gpt2, no bias": PLAIN | GROUPED | {"position": "learned", "tie_embeddings": False},
    "starcoder2": PLAIN | {"position": {"name": "rope", "theta": 100.0}, "bias": True},
    "gptneox": PLAIN | {"position": {"name": "rope", "fraction": 0.5}, "layout": "parallel", "bias": True},
    "gptneox, one norm": PLAIN | {"position": "rope", "layout": {"name": "parallel", "shared_norm": True}},
    "mpt": PLAIN | {"position": "alibi"},
    "nemotron": PLAIN | {"position": {"name": "rope", "fraction": 0.5}, "activation": "squared_relu", "bias": True},
}


def trained(tokenizer=CHARACTERS, vocab_size: int = 100, **axes) -> TrainedModel:
    """A model far from its first values, so that no two tokens are about as likely."""
    spec = make_spec(d_model=64, n_head=4, block_size=64, vocab_size=max(vocab_size, tokenizer.vocab_size), **axes)
    model = GPT.create(spec).eval()
    noise = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=noise), alpha=0.15)
    return TrainedModel(model, tokenizer, {"step": 3, "val_loss": 1.5, "files": {}}, Path("out/run"))


def own_greedy(model: TrainedModel, prompt: list[int], count: int) -> list[int]:
    tokens = torch.tensor([prompt])
    chosen = generate(model.model, tokens, count, Sampling(temperature=0), vocab_size=model.tokenizer.vocab_size)
    return chosen[0].tokens


@pytest.fixture(scope="module", params=SHAPES)
def exported(request, tmp_path_factory):
    """(name, model, its file)"""
    model, file = trained(**SHAPES[request.param]), tmp_path_factory.mktemp("gguf") / "model.gguf"
    export_gguf(model, file)
    return request.param, model, file


@pytest.mark.parametrize("engine", ENGINES)
def test_llama_cpp_takes_the_same_tokens(exported, engine):
    _, model, file = exported
    prompt = CHARACTERS.encode("The quick").tolist()
    assert greedy(engine, file, prompt, 12) == own_greedy(model, prompt, 12)


def test_llama_cpp_computes_the_same_logits(exported):
    name, model, file = exported
    tokens = list(range(3, 35))
    theirs = llama_cpp_logits(file, tokens)
    with torch.no_grad():
        ours = model.model(torch.tensor([tokens])).logits[0, :, : CHARACTERS.vocab_size].numpy()
    gelu = SHAPES[name]["activation"] == "gelu_tanh"  # which llama.cpp looks up in a table of 16 bits
    np.testing.assert_allclose(theirs, ours, atol=5e-3 if gelu else 1e-4)


def test_a_shape_is_written_as_the_architecture_of_its_name(exported):
    name, model, file = exported
    reader = gguf.GGUFReader(file)
    assert reader.fields["general.architecture"].contents() == name.split(",")[0]
    assert json.loads(reader.fields["minigpt.meta"].contents()) == {"step": 3, "val_loss": 1.5}
    assert typed(ModelSpec, json.loads(reader.fields["minigpt.model"].contents())) == model.model.spec
    assert from_json(json.loads(reader.fields["minigpt.tokenizer"].contents())).hash == CHARACTERS.hash
    assert {name.split(",")[0] for name in SHAPES} == {architecture.name for architecture in ARCHITECTURES}


def rounded(model: TrainedModel, kind: torch.dtype) -> TrainedModel:
    with torch.no_grad():
        for parameter in model.model.parameters():
            if parameter.ndim > 1:
                parameter.copy_(parameter.to(kind))
    return model


@pytest.mark.parametrize("engine", ENGINES)
def test_a_file_of_f16_is_the_rounded_model(engine, tmp_path):
    model = trained(**SHAPES["llama"])
    export_gguf(model, tmp_path / "m.gguf", "f16")
    prompt = CHARACTERS.encode("The quick").tolist()
    assert greedy(engine, tmp_path / "m.gguf", prompt, 5) == own_greedy(rounded(model, torch.float16), prompt, 5)


def test_a_file_of_bf16_is_the_rounded_model(tmp_path):
    model = trained(**SHAPES["llama"])
    export_gguf(model, tmp_path / "m.gguf", "bf16")
    stored = {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "m.gguf").tensors}
    table = stored["token_embd.weight"]
    read = gguf.quants.dequantize(table.data, table.tensor_type)
    ours = rounded(model, torch.bfloat16).model
    np.testing.assert_array_equal(read, ours.embedding.weight.detach().numpy()[: CHARACTERS.vocab_size])
    tokens = list(range(3, 35))
    with torch.no_grad():
        expected = ours(torch.tensor([tokens])).logits[0, :, : CHARACTERS.vocab_size].numpy()
    # llama.cpp rounds activations to the format of the weights, too
    np.testing.assert_allclose(llama_cpp_logits(tmp_path / "m.gguf", tokens), expected, atol=0.1)


def byte_pairs() -> TiktokenTokenizer:
    return train_bpe([TEXT * 40], 300)


def from_elsewhere() -> HuggingFaceTokenizer:
    """GPT-2's way to cut text, with a token added that every text may hold."""
    content = to_huggingface(byte_pairs())
    content["pre_tokenizer"] = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    content["model"]["ignore_merges"] = False
    return HuggingFaceTokenizer(content)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "tokenizer", [ByteTokenizer(), CHARACTERS, byte_pairs(), from_elsewhere()], ids=lambda tokenizer: tokenizer.kind
)
def test_llama_cpp_reads_text_with_the_same_vocabulary(engine, tokenizer, tmp_path):
    model = trained(tokenizer, vocab_size=1, **SHAPES["llama"])
    assert len(export_gguf(model, tmp_path / "m.gguf")) == 1
    text = TEXT if tokenizer is not CHARACTERS else TEXT.encode("ascii", "ignore").decode()
    tokens = tokenizer.encode(text).tolist()
    if engine == "llama_cpp":
        assert llama_cpp_tokens(tmp_path / "m.gguf", text) == tokens
    else:
        assert xllamacpp_next(tmp_path / "m.gguf", text) == xllamacpp_next(tmp_path / "m.gguf", tokens)


@pytest.mark.parametrize(
    "tokenizer",
    [
        CharTokenizer("abcé"),
        TiktokenTokenizer("odd", r"\s|\S+", byte_pairs().ranks, {"<|endoftext|>": 400}),
        TiktokenTokenizer("endless", GPT2_PATTERN, byte_pairs().ranks, {}),
    ],
    ids=["char", "pattern", "endless"],
)
def test_a_vocabulary_that_llama_cpp_would_read_otherwise_is_left_to_token_ids(tokenizer, tmp_path):
    model = trained(tokenizer, **SHAPES["llama"])
    notes = export_gguf(model, tmp_path / "m.gguf")
    assert "cannot read text" in notes[1]
    fields = gguf.GGUFReader(tmp_path / "m.gguf").fields
    assert fields["tokenizer.ggml.model"].contents() == "none"
    assert from_json(json.loads(fields["minigpt.tokenizer"].contents())).hash == tokenizer.hash
    assert greedy("llama_cpp", tmp_path / "m.gguf", [1, 2, 3], 5) == own_greedy(model, [1, 2, 3], 5)


@pytest.mark.parametrize(
    ("axes", "reason"),
    [
        ({"softmax": "consmax"}, "softmax is softmax, and here consmax"),
        ({"attention": {"name": "causal", "window": 8}}, "attention.window is set"),
        ({"attention": {"name": "causal", "softcap": 8.0}}, "attention.softcap is set"),
        ({"attention": {"name": "causal", "n_kv_head": 3}}, "even groups"),
        ({"attention": "linear"}, "attention is causal, and here linear"),
        ({"sites": {"norm": {"final": {"name": "rmsnorm", "eps": 0.5}}}}, "one eps"),
        ({"sites": {"norm": {"embedding": {"name": "rmsnorm"}}}}, "sites.norm.embedding is set"),
        ({"sites": {"linear": {"down": {"name": "ternary"}}}}, "linear is linear, and at down here ternary"),
        ({"share": {"mlp": "run"}}, "layers share"),
        ({"position": {"name": "rope", "fraction": 0.5}}, "whole heads"),
        ({"position": "nope"}, "position is"),
        ({"mlp": "identity"}, "mlp is"),
        ({"attention": {"name": "causal", "scale_width": 9.0}}, "no option scale_width"),
        ({"head": {"name": "linear", "softcap": 9.0}}, "head has no option softcap"),
        (
            {"tie_embeddings": False, "sites": {"linear": {"head": {"name": "linear", "bias": True}}}},
            "head has no bias",
        ),
    ],
)
def test_a_model_that_llama_cpp_cannot_compute_is_refused_with_the_part(axes, reason, tmp_path):
    with pytest.raises(UserError, match=reason) as refused:
        export_gguf(trained(**GATED | axes), tmp_path / "m.gguf")
    assert len(str(refused.value).splitlines()) <= 2
    assert list(tmp_path.iterdir()) == []


def test_layers_of_two_kinds_are_refused(tmp_path):
    import dataclasses

    model = trained(**GATED)
    other = make_spec(**GATED | {"attention": {"name": "causal", "window": 4}}).blocks[0]
    spec = dataclasses.replace(model.model.spec, blocks=(model.model.spec.blocks[0], other))
    two = dataclasses.replace(model, model=GPT.create(spec).eval())
    with pytest.raises(UserError, match="layer 1 has other parts than layer 0"):
        export_gguf(two, tmp_path / "m.gguf")


def test_nothing_is_overwritten_and_nothing_half_written_is_left(tmp_path, monkeypatch):
    model, file = trained(**GATED), tmp_path / "m.gguf"
    file.write_text("mine")
    with pytest.raises(UserError, match="is not overwritten"):
        export_gguf(model, file)
    assert file.read_text() == "mine"
    monkeypatch.setattr(
        gguf.GGUFWriter, "write_tensors_to_file", lambda self: (_ for _ in ()).throw(OSError(28, "full"))
    )
    with pytest.raises(UserError, match="disk full"):
        export_gguf(model, tmp_path / "other.gguf")
    assert [each.name for each in tmp_path.iterdir()] == ["m.gguf"]


def test_numbers_beyond_f16_are_refused(tmp_path):
    model = trained(**GATED)
    with torch.no_grad():
        model.model.embedding.weight[0, 0] = 1e6
    with pytest.raises(UserError, match=r"f16: token_embd\.weight has numbers beyond 65504"):
        export_gguf(model, tmp_path / "m.gguf", "f16")


def test_without_the_package_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(UserError, match=r"pip install 'minigpt\[export\]'"):
        export_gguf(trained(**GATED), tmp_path / "m.gguf")


def test_every_token_has_a_text_of_its_own():
    words = vocabulary(byte_pairs())
    assert len(set(words.tokens)) == words.size == len(words.types)
