"""One meaning of a word: what a preset is on the command line, it is in a block, at a site, and in plain data."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir

from minigpt import cli, config, presets, registry, schema
from minigpt.config import TrainConfig
from minigpt.errors import UserError

EVERY_PRESET = [(axis, word) for axis in presets.composition_order() for word in presets.named(axis)]
EVERY_WORD = EVERY_PRESET + [(axis, name) for axis in presets.composition_order() for name in registry.names(axis)]
BLOCK_AXES = registry.axes("block")


@pytest.fixture
def conf(tmp_path, monkeypatch):
    """A copy of the project's conf/ to write presets into."""
    folder = tmp_path / "conf"
    shutil.copytree(presets.CONF, folder)
    monkeypatch.setattr(presets, "CONF", folder)
    cached = (presets._files, presets._read, presets.brings, presets._order)
    for each in cached:
        each.cache_clear()
    yield folder
    for each in cached:
        each.cache_clear()


def composed(*words: str, folder: Path | None = None) -> TrainConfig:
    cli.store_components.cache_clear()  # the order of axes follows from the presets there are
    cli.store_components()
    with initialize_config_dir(str(folder or presets.CONF), version_base=None):
        return config.check(compose("train", list(words)), TrainConfig)


@functools.cache
def plain_base() -> dict[str, Any]:
    return schema.plain(composed())


@pytest.mark.parametrize(("axis", "word"), EVERY_PRESET, ids=str)
def test_a_word_is_what_hydra_makes_of_it(axis, word):
    assert schema.plain(composed(f"{axis}={word}")) == plain_base() | presets.resolve(axis, word)


@pytest.mark.parametrize(("axis", "word"), [w for w in EVERY_WORD if w[0] in BLOCK_AXES], ids=str)
def test_a_word_means_the_same_in_a_block_and_in_a_layer_as_on_top(axis, word):
    plain = plain_base()
    on_top = config.check(plain | presets.resolve(axis, word), TrainConfig).default_block()
    in_block = config.check(plain | {"blocks": {"b": {axis: word}}, "pattern": ["b"]}, TrainConfig)
    in_layer = config.check(plain | {"layers": {0: {axis: word}}}, TrainConfig)
    for run in (in_block, in_layer):
        assert run.resolved_blocks()[0].parts == on_top.parts
    assert in_layer.resolved_blocks()[1] == in_layer.default_block()


def test_a_preset_of_several_axes_brings_them_and_what_is_said_wins():
    plain = plain_base()
    named = {"blocks": {"a": {"mlp": "gelu_mlp"}, "b": {"mlp": "gelu_mlp", "activation": "relu"}}}
    a, b = config.check(plain | named | {"pattern": ["a", "b"]}, TrainConfig).resolved_blocks()[:2]
    assert (a.spec("mlp").name, a.spec("activation").name) == ("mlp", "gelu")
    assert (b.spec("mlp").name, b.spec("activation").name) == ("mlp", "relu")


def test_options_may_be_added_to_a_preset():
    plain = plain_base()
    run = config.check(plain | {"attention": {"name": "gqa", "window": 16}}, TrainConfig)
    assert str(run.parts["attention"]) == "causal(n_kv_head=2, window=16)"


def test_what_is_stored_needs_no_preset_any_more():
    run = config.check(
        plain_base() | {"attention": "mqa", "layers": {1: {"attention": "gqa"}}, "optimizer": "nanogpt"},
        TrainConfig,
    )
    stored = schema.plain(run)
    assert (stored["attention"]["name"], stored["layers"]["1"]["attention"]["name"]) == ("causal", "causal")
    assert stored["optimizer"]["beta2"] == 0.99
    assert config.check(stored, TrainConfig) == run


def test_a_site_takes_a_preset_of_one_axis_and_refuses_one_of_several(conf):
    (conf / "linear" / "two_bits.yaml").write_text("defaults: [ternary, _self_]\nactivation_bits: 2\n")
    plain = plain_base()
    run = config.check(plain | {"sites": {"linear": {"down": "two_bits"}}}, TrainConfig)
    assert str(run.default_block().spec("linear", "down")) == "ternary(activation_bits=2)"
    with pytest.raises(UserError, match=r"sites\.mlp\.x: mlp: preset 'gelu_mlp' chooses activation too"):
        config.check(plain | {"sites": {"mlp": {"x": "gelu_mlp"}}}, TrainConfig)


LAYERED = {
    "attention/local.yaml": "defaults: [sliding, _self_, override /norm@_global_.norm: layernorm]\nn_kv_head: 1\n",
    "norm/plain.yaml": "name: layernorm\nbias: true\n",
    "mlp/relu_of_gelu.yaml": "defaults: [gelu_mlp, _self_, override /activation@_global_.activation: relu]\n",
    "mlp/own_first.yaml": "defaults: [_self_, swiglu_2048]\nhidden: 64\nmultiple_of: 4\n",
    "layout/chain.yaml": "defaults: [parallel, _self_, override /mlp@_global_.mlp: relu_of_gelu]\n",
}


@pytest.mark.parametrize("file", LAYERED)
def test_presets_upon_presets_are_what_hydra_makes_of_them(conf, file):
    for name, text in LAYERED.items():
        (conf / name).parent.mkdir(exist_ok=True)
        (conf / name).write_text(text)
    axis, word = file.removesuffix(".yaml").split("/")
    expected = schema.plain(composed(folder=conf)) | presets.resolve(axis, word)
    assert schema.plain(composed(f"{axis}={word}", folder=conf)) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("defaults: [causal, _self_]\nwindwo: 3\n", r"mine\.yaml\.windwo: 'causal' has no option 'windwo'"),
        ("defaults: [mine, _self_]\n", r"mine\.yaml: starts from itself"),
        ("defaults: [causl]\n", r"there is no attention named 'causl'\. Did you mean 'causal'"),
        ("defaults: [causal, _self_]\nwindow: ${model.n_layer}\n", r"mine\.yaml: a preset says names and values"),
        ("defaults: [{override /mlp: glu}]\n", r"mine\.yaml: '.*' is not understood in a preset\. Its form"),
        ("{", r"mine\.yaml: cannot be read"),
        ("- 3\n", r"mine\.yaml: a preset says names and values"),
        ("defaults: 3\n", r"mine\.yaml: a preset says names and values"),
    ],
)
def test_a_preset_that_says_nothing_sensible_is_named(conf, text, message):
    (conf / "attention" / "mine.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        presets.resolve("attention", "mine")


def test_presets_that_choose_in_a_circle_are_refused(conf):
    (conf / "norm").mkdir()
    (conf / "norm" / "a.yaml").write_text("defaults: [rmsnorm, override /mlp@_global_.mlp: glu]\n")
    (conf / "mlp" / "b.yaml").write_text("defaults: [glu, override /norm@_global_.norm: rmsnorm]\n")
    with pytest.raises(UserError, match="choose on each other's axis"):
        presets.composition_order()


def test_a_preset_may_not_hide_a_component(conf):
    (conf / "norm").mkdir()
    (conf / "norm" / "rmsnorm.yaml").write_text("name: layernorm\n")
    with pytest.raises(UserError, match=r"norm=rmsnorm: is both minigpt\.components\.norm\.rmsnorm\.RMSNorm and"):
        presets.spell_out({})


@pytest.mark.parametrize("word", ["gqqa", "../attention/gqa", "", "gqa.yaml", "\x1b[31m"])
def test_a_word_that_means_nothing_gets_all_that_do(word):
    choices = sorted({*registry.names("attention"), *presets.named("attention")})
    with pytest.raises(UserError, match=rf"there is no attention named .*\n  choices: {', '.join(choices)}$"):
        presets.resolve("attention", word)
