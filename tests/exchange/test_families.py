"""Every family, both ways: the same logits as transformers, the same tensors back, no key ignored."""

from __future__ import annotations

import contextlib
import json
import shutil

import pytest
import torch
import transformers
from safetensors.torch import load_file

from minigpt.errors import UserError
from minigpt.exchange.config import ExportConfig, ImportConfig
from minigpt.exchange.exporting import export
from minigpt.exchange.families import FAMILIES
from minigpt.exchange.family import HARMLESS, ONLY, Helper, Key, Only, Windows
from minigpt.exchange.huggingface import spec_from_config
from minigpt.exchange.importing import import_
from minigpt.exchange.opened import open_model
from minigpt.exchange.trained import load_trained
from tests.exchange.families import MADE, config_of, make, save, tokens


def model_type(name: str) -> str:
    return config_of(name).model_type


@pytest.mark.parametrize("name", MADE)
def test_logits_equal_transformers(name, theirs):
    model, folder = theirs(name)
    ours = load_trained(folder).model
    with torch.no_grad():
        expected = model(tokens()).logits
        torch.testing.assert_close(ours(tokens()).logits, expected, atol=1e-5, rtol=1e-5)
    assert expected.abs().max() > 1


@pytest.mark.parametrize("name", MADE)
def test_a_model_that_came_in_goes_out_as_it_was(name, theirs, tmp_path):
    _, folder = theirs(name)
    import_(ImportConfig(source=str(folder), out=str(tmp_path / "ours")))
    export(ExportConfig(checkpoint=str(tmp_path / "ours"), out=str(tmp_path / "theirs")))
    before, after = (load_file(f / "model.safetensors") for f in (folder, tmp_path / "theirs"))
    assert before.keys() == after.keys()
    for each, tensor in before.items():
        assert tensor.dtype == after[each].dtype
        assert torch.equal(tensor, after[each]), each
    stored, written = (json.loads((f / "config.json").read_text()) for f in (folder, tmp_path / "theirs"))
    known = {key for key in FAMILIES[model_type(name)].keys if "." not in key} | {"rope_parameters"}
    for key in known & {*stored}:
        assert written.get(key, stored[key]) == stored[key] or stored[key] is None, key
    for file in ("tokenizer.json", "tokenizer_config.json"):
        assert json.loads((folder / file).read_text()) == json.loads((tmp_path / "theirs" / file).read_text())


@pytest.mark.parametrize("name", FAMILIES)
def test_transformers_opens_what_goes_out_and_a_second_way_in_gives_the_same_checkpoint(name, theirs, tmp_path):
    model, folder = theirs(name)
    first, out, second = tmp_path / "first", tmp_path / "out", tmp_path / "second"
    import_(ImportConfig(source=str(folder), out=str(first)))
    export(ExportConfig(checkpoint=str(first), out=str(out)))
    import_(ImportConfig(source=str(out), out=str(second)))
    for file in ("model.safetensors", "model.json", "tokenizer.json"):
        assert (first / file).read_bytes() == (second / file).read_bytes(), file
    opened = transformers.AutoModelForCausalLM.from_pretrained(out, attn_implementation="eager").eval()
    with torch.no_grad():
        assert torch.equal(opened(tokens()).logits, model(tokens()).logits)
    words = transformers.AutoTokenizer.from_pretrained(out)
    assert words("ABC").input_ids == load_trained(out).tokenizer.encode("ABC").tolist()


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_numbers_keep_their_format_on_the_way(name, tmp_path):
    folder = save(make(name, torch.bfloat16), tmp_path / "theirs")
    import_(ImportConfig(source=str(folder), out=str(tmp_path / "ours")))
    export(ExportConfig(checkpoint=str(tmp_path / "ours"), out=str(tmp_path / "back")))
    before, after = (load_file(f / "model.safetensors") for f in (folder, tmp_path / "back"))
    assert {t.dtype for t in after.values()} == {torch.bfloat16}
    assert all(torch.equal(before[each], after[each]) for each in before)
    assert json.loads((tmp_path / "back" / "config.json").read_text())["dtype"] == "bfloat16"
    assert load_trained(tmp_path / "ours").model.embedding.weight.dtype == torch.float32


def test_several_files_with_an_index_are_one_model(theirs, tmp_path):
    model, folder = theirs("qwen3")
    parts = save(model, tmp_path / "parts", max_shard_size="20KB")
    assert (parts / "model.safetensors.index.json").is_file()
    import_(ImportConfig(source=str(folder), out=str(tmp_path / "whole")))
    import_(ImportConfig(source=str(parts), out=str(tmp_path / "joined")))
    assert (tmp_path / "whole/model.safetensors").read_bytes() == (tmp_path / "joined/model.safetensors").read_bytes()


def test_a_file_of_the_body_alone_leaves_the_prefix_out(theirs, tmp_path):
    """The file of GPT-2 that everybody downloads is such a one, with masks as buffers."""
    from safetensors.torch import save_file

    model, folder = theirs("gpt2")
    bare = shutil.copytree(folder, tmp_path / "bare")
    tensors = {name.removeprefix("transformer."): t for name, t in load_file(bare / "model.safetensors").items()}
    tensors |= {f"h.{layer}.attn.bias": torch.ones(1, 1, 32, 32).tril() for layer in range(3)}
    save_file(tensors, bare / "model.safetensors")
    with torch.no_grad():
        logits = load_trained(bare).model(tokens()).logits
        torch.testing.assert_close(logits, model(tokens()).logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_defaults_of_missing_keys_are_those_of_transformers(name):
    """Files of today write every key, older ones left out what was usual."""
    cls = type(config_of(next(each for each in MADE if model_type(each) == name)))
    defaults = cls().to_dict()
    defaults |= {f"rope_parameters.{key}": value for key, value in defaults.get("rope_parameters", {}).items()}
    for key, entry in FAMILIES[name].keys.items():
        if isinstance(entry, Key) and not callable(entry.default):
            assert entry.default == defaults[key], key
        if isinstance(entry, Only):
            assert defaults.get(key) in (None, entry.absent), key


@pytest.mark.parametrize("name", FAMILIES)
def test_every_key_that_transformers_writes_is_in_a_table(name):
    family = FAMILIES[name]
    written = type(config_of(next(each for each in MADE if model_type(each) == name)))().to_dict()
    groups = {key.partition(".")[0] for key in family.keys}
    assert not {*written} - {*family.keys, *groups, *HARMLESS, *ONLY}


@pytest.mark.parametrize("name", FAMILIES)
def test_no_key_is_ignored_in_silence(name, theirs):
    """Every key of a configuration, given another value: the model is another one, or it is refused."""
    stored = json.loads((theirs(name)[1] / "config.json").read_text())
    family = FAMILIES[name]
    spec = spec_from_config(stored, family, "config.json")
    helpers = {key for key, rule in family.keys.items() if isinstance(rule, Helper | Windows)}
    for key, value in stored.items():
        if key in HARMLESS or key in helpers:
            continue
        other = {bool: not value, float: 0.25, str: "mish"}.get(type(value), {"rope_theta": 7.0})
        other = value + 1 if type(value) is int else other
        with contextlib.suppress(UserError):
            assert spec_from_config(stored | {key: other}, family, "config.json") != spec, key


def test_windows_are_those_of_the_layers_they_are_said_of():
    config = dict.fromkeys(("num_hidden_layers", "num_attention_heads", "num_key_value_heads"), 4)
    config |= {"hidden_size": 32, "max_position_embeddings": 100, "vocab_size": 9, "intermediate_size": 16}

    def windows(model_type, **changes):
        spec = spec_from_config(config | changes, FAMILIES[model_type], "config.json")
        return [block.spec("attention").options.window for block in spec.blocks]

    assert windows("mistral", sliding_window=7) == [7, 7, 7, 7]
    assert windows("mistral", sliding_window=None) == [None] * 4
    assert windows("mistral") == [None] * 4  # 4096 is more than the context, and hides nothing
    assert windows("gemma2", sliding_window=9) == [9, None, 9, None]
    assert windows("gemma2", sliding_window=9, layer_types=["full_attention", "sliding_attention"] * 2) == [None, 9] * 2
    assert windows("qwen3", sliding_window=5) == [None] * 4
    assert windows("qwen3", sliding_window=5, use_sliding_window=True) == [None] * 4  # from layer 28 on
    assert windows("qwen2", sliding_window=5, use_sliding_window=True, max_window_layers=3) == [None, None, None, 5]
    for wrong in (["full_attention"] * 3, ["chunked_attention"] * 4, "full_attention", [1, 2, 3, 4]):
        with pytest.raises(UserError, match="layer_types: expected 4 of sliding_attention and full_attention"):
            windows("gemma2", layer_types=wrong)
    for wrong in (0, -1, "9", 2.5, True):
        with pytest.raises(UserError, match="window"):
            windows("gemma2", sliding_window=wrong)


REFUSED = {
    "a key nobody knows": ({"clever_new_trick": True}, "clever_new_trick: not a key of llama"),
    "scaled positions": (
        {"rope_parameters": None, "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "high_freq_factor": 4.0}},
        "rope_type is 'llama3', expected default",
    ),
    "scaled positions of old": (
        {"rope_parameters": None, "rope_scaling": {"type": "linear", "factor": 2.0}},
        "rope_type is 'linear'",
    ),
    "an unknown way to turn": ({"rope_parameters": {"rope_theta": 1e4, "mrope_section": [1, 2]}}, "mrope_section"),
    "two bases": ({"rope_theta": 77.0}, "one says the other"),
    "an activation": ({"hidden_act": "mish"}, "'mish' is not among our parts"),
    "packed weights": ({"quantization_config": {"bits": 4}}, "packed"),
    "another head": ({"architectures": ["LlamaForSequenceClassification"]}, "expected a language model"),
    "another family": ({"model_type": "mamba"}, "none we have a table for"),
    "no family": ({"model_type": ["llama"]}, "none we have a table for"),
    "sums in pieces": ({"pretraining_tp": 2}, "round differently"),
    "a text for a number": ({"hidden_size": "32"}, "expected a whole number"),
    "a yes for a number": ({"num_hidden_layers": True}, "expected a whole number"),
    "no layers": ({"num_hidden_layers": 0}, "n_layer"),
    "endless layers": ({"num_hidden_layers": 10**9}, "n_layer"),
    "no heads": ({"num_attention_heads": 0, "num_key_value_heads": None, "head_dim": None}, "of which one is 0"),
    "more key heads than heads": ({"num_key_value_heads": 8}, "n_kv_head"),
    "not a number": ({"rms_norm_eps": float("nan")}, "norm.eps"),
    "a list for a group": ({"rope_parameters": [1]}, "expected an object"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_expressed_is_refused_with_the_reason(case, theirs, tmp_path):
    change, reason = REFUSED[case]
    folder = shutil.copytree(theirs("llama")[1], tmp_path / "model")
    stored = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(stored | change))
    with pytest.raises(UserError, match=reason.replace("[", r"\[")) as error:
        open_model(folder)
    assert str(error.value).count("\n") <= 1


def test_a_key_can_be_passed_over_by_name(theirs, tmp_path):
    folder = shutil.copytree(theirs("llama")[1], tmp_path / "model")
    stored = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(stored | {"made_by": "somebody"}))
    import_(ImportConfig(source=str(folder), out=str(tmp_path / "out"), ignore=["made_by"]))
    assert open_model(tmp_path / "out").meta["family"] == "llama"
