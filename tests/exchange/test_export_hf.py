"""Models of ours out: transformers computes the same, they come back as they were, what it cannot hold is refused."""

from __future__ import annotations

import json

import pytest
import torch
import transformers
from safetensors.torch import load_file

from minigpt.data.tokenizers import ByteTokenizer
from minigpt.errors import UserError
from minigpt.exchange.config import ExportConfig, FamilyName, ImportConfig
from minigpt.exchange.exporting import export
from minigpt.exchange.importing import import_
from minigpt.exchange.trained import load_trained
from minigpt.model import GPT
from minigpt.model.checkpoint import read_spec, save_checkpoint
from minigpt.testing import make_spec
from tests.exchange.families import VOCABULARY, tokens

RMS = {"name": "rmsnorm", "eps": 1e-3}
GPT2 = {"position": "learned", "norm": "layernorm", "mlp": "mlp", "activation": "gelu_tanh", "bias": True}
OURS = {
    "gpt2": GPT2,
    "gpt2 untied": GPT2 | {"tie_embeddings": False, "mlp": {"name": "mlp", "hidden": 40}, "activation": "relu"},
    "llama": {"attention": {"name": "causal", "n_kv_head": 2}, "tie_embeddings": False},
    "llama of one key head": {"attention": {"name": "causal", "n_kv_head": 1}, "bias": True, "norm": RMS},
    "mistral": {"attention": {"name": "causal", "window": 5}},
    "qwen2": {"sites": {"linear": {site: {"name": "linear", "bias": True} for site in "qkv"}}},
    "phi3": {"position": {"name": "rope", "fraction": 0.5}},
    "gemma": {"norm": {"name": "rmsnorm", "unit_offset": True}, "embedding": {"name": "table", "scaled": True}},
    "qwen3": {"attention": {"name": "causal", "n_kv_head": 2, "qk_norm": True}},
    "olmo2": {"attention": {"name": "causal", "qk_norm": True, "qk_norm_over": "heads"}, "layout": "res_post_norm"},
    "gpt_neox": GPT2 | {"position": {"name": "rope", "fraction": 0.5}, "layout": "parallel", "activation": "gelu"},
    "gpt_neox serial": GPT2 | {"position": "rope", "activation": "gelu"},
    "phi": GPT2
    | {"position": "rope", "layout": {"name": "parallel", "shared_norm": True}, "tie_embeddings": False}
    | {"sites": {"linear": {"head": {"name": "linear", "bias": True}}}},
    "gemma2": {
        "layout": "sandwich", "norm": {"name": "rmsnorm", "unit_offset": True}, "activation": "gelu_tanh",
        "embedding": {"name": "table", "scaled": True}, "head": {"name": "linear", "softcap": 4.0},
        "attention": {"name": "causal", "softcap": 2.0, "n_kv_head": 2},
    },
}  # fmt: skip
"""Family, and what is special -> a model of ours as somebody would write it."""


def saved(folder, vocab_size=61, tokenizer=VOCABULARY, **axes):
    """A checkpoint of random weights."""
    model = GPT.create(make_spec(vocab_size=vocab_size, block_size=32, **axes)).eval()
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    save_checkpoint(folder, model, tokenizer=tokenizer.to_json(), meta={"step": 5})
    return model


@pytest.mark.parametrize("name", OURS)
def test_transformers_computes_what_ours_does_and_it_comes_back_as_it_was(name, tmp_path, capsys):
    model = saved(tmp_path / "ours", **OURS[name])
    export(ExportConfig(checkpoint=str(tmp_path / "ours"), out=str(tmp_path / "theirs")))
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "theirs", attn_implementation="eager").eval()
    assert theirs.config.model_type == name.split()[0]
    with torch.no_grad():
        torch.testing.assert_close(theirs(tokens()).logits, model(tokens()).logits, atol=1e-5, rtol=1e-5)
    import_(ImportConfig(source=str(tmp_path / "theirs"), out=str(tmp_path / "back")))
    before, after = (load_file(tmp_path / each / "model.safetensors") for each in ("ours", "back"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[each], after[each]) for each in before)
    assert (tmp_path / "ours/tokenizer.json").read_text() == (tmp_path / "back/tokenizer.json").read_text()
    assert read_spec(tmp_path / "back").n_layer == 2


@pytest.mark.parametrize("name", ["gpt2", "llama", "mistral", "gemma2", "gpt_neox"])
def test_greedy_continuations_are_the_same(name, tmp_path):
    """Token by token, each with a cache of its own, past the window."""
    model = saved(tmp_path / "ours", **OURS[name])
    export(ExportConfig(checkpoint=str(tmp_path / "ours"), out=str(tmp_path / "theirs")))
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "theirs", attn_implementation="eager").eval()
    prompt = tokens(1, 6)
    with torch.no_grad():
        expected = theirs.generate(prompt, max_new_tokens=20, do_sample=False, eos_token_id=None, pad_token_id=0)
        state, ours, fed = model.new_state(1), prompt, prompt
        for _ in range(20):
            fed = model(fed, state, last_only=True).logits.argmax(-1)
            ours = torch.cat([ours, fed], dim=1)
    assert ours.tolist() == expected.tolist()


def test_several_files_are_written_and_read(tmp_path):
    model = saved(tmp_path / "ours", n_layer=8, d_model=192)
    options = {"checkpoint": str(tmp_path / "ours"), "out": str(tmp_path / "theirs"), "shard_mib": 4}
    export(ExportConfig(**options))
    files = sorted(tmp_path.glob("theirs/*.safetensors"))
    assert len(files) > 2
    assert max(file.stat().st_size for file in files) < 5 << 20
    index = json.loads((tmp_path / "theirs" / "model.safetensors.index.json").read_text())
    assert {*index["weight_map"].values()} == {file.name for file in files}
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "theirs").eval()
    back = load_trained(tmp_path / "theirs").model
    with torch.no_grad():
        expected = model(tokens()).logits
        torch.testing.assert_close(theirs(tokens()).logits, expected, atol=1e-4, rtol=1e-4)
        assert torch.equal(back(tokens()).logits, expected)


REFUSED = {
    "softmax.name is consmax, llama has softmax": {"softmax": "consmax"},
    "layout.name is post_norm": {"layout": "post_norm"},
    "position.name is alibi": {"position": "alibi"},
    "mlp.name is identity": {"mlp": "identity"},
    "attention.name is linear": {"attention": "linear", "position": "nope"},
    "residual.name is layerscale": {"residual": "layerscale"},
    "linear.down.name is ternary": {"sites": {"linear": {"down": "ternary"}}},
    "norm.final.name is layernorm": {"sites": {"norm": {"final": "layernorm"}}},
    "norm.embedding.name is rmsnorm": {"sites": {"norm": {"embedding": "rmsnorm"}}},
    "norm.final.eps is 0.1": {"sites": {"norm": {"final": {"name": "rmsnorm", "eps": 0.1}}}},
    "head.softcap is 3.0": {"head": {"name": "linear", "softcap": 3.0}},
    "share.block: cycle: layers that share": {"share": {"block": "cycle"}},
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_no_family_has_is_refused_with_the_nearest(reason, tmp_path):
    saved(tmp_path / "ours", **REFUSED[reason])
    with pytest.raises(UserError, match=reason.replace(".", r"\.")) as error:
        export(ExportConfig(checkpoint=str(tmp_path / "ours"), out=str(tmp_path / "out")))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_family_can_be_asked_for(tmp_path):
    saved(tmp_path / "ours")
    options = {"checkpoint": str(tmp_path / "ours"), "out": str(tmp_path / "out")}
    with pytest.raises(UserError, match=r"GPT2LMHeadModel cannot hold this model: position.name is rope.*and . more"):
        export(ExportConfig(**options, family="gpt2"))
    export(ExportConfig(**options, family="mistral"))
    assert json.loads((tmp_path / "out" / "config.json").read_text())["sliding_window"] is None
    with pytest.raises(UserError, match="is there already and is not overwritten"):
        export(ExportConfig(**options))


def test_a_padded_vocabulary_and_a_byte_tokenizer_go_out_too(tmp_path):
    saved(tmp_path / "ours", vocab_size=300, tokenizer=ByteTokenizer())
    export(ExportConfig(checkpoint=str(tmp_path / "ours"), out=str(tmp_path / "out")))
    words = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert words("naïve €").input_ids == list("naïve €".encode())
    assert words.decode(words("naïve €").input_ids) == "naïve €"


def test_nanogpt_goes_out_as_gpt2_or_is_refused(tmp_path):
    """Its GELU is the exact one, which GPT-2's table has too."""
    from tests.exchange.nanogpt import SIZES
    from tests.exchange.test_torch_checkpoints import checkpoint, write

    file = write(tmp_path / "ckpt.pt", checkpoint(SIZES))
    export(ExportConfig(checkpoint=str(file), out=str(tmp_path / "out")))
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out", attn_implementation="eager").eval()
    assert theirs.config.activation_function == "gelu"
    with torch.no_grad():
        ours = load_trained(file).model(tokens(2, 24)).logits
        torch.testing.assert_close(theirs(tokens(2, 24)).logits, ours, atol=1e-5, rtol=1e-5)
    write(file, checkpoint(SIZES | {"bias": False}))
    with pytest.raises(UserError, match=r"GPT2LMHeadModel cannot hold this model: .*bias"):
        export(ExportConfig(checkpoint=str(file), out=str(tmp_path / "other"), family="gpt2"))


def test_every_family_can_be_asked_for_on_the_command_line():
    import typing

    from minigpt.exchange.families import FAMILIES

    choices = typing.get_args(FamilyName)
    assert set(choices) == {*FAMILIES}


def test_options_of_other_formats_are_refused():
    with pytest.raises(UserError, match="family: is an option of format=hf; gguf would ignore it"):
        ExportConfig(checkpoint="x", out="y", format="gguf", family="gpt2")
