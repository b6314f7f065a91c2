"""Named blocks and patterns: one block per layer, nothing guessed, nothing unused."""

from __future__ import annotations

import pytest

from minigpt import registry
from minigpt.blocks import BlockSpec, ShareSpec, resolve_blocks
from minigpt.errors import UserError
from minigpt.schema import PositiveInt, options, typed

DEFAULT = BlockSpec(label="default", parts={axis: registry.default(axis) for axis in registry.axes("block")})
LOCAL = {"local": {"attention": {"window": 8}}}


class Renamed:
    """A part with an option."""

    @options
    class Config:
        n_kv_head: PositiveInt = 1


def resolve(blocks=LOCAL, pattern=("local", "local", "default"), layers=None, n_layer=6, repeat=False):
    return resolve_blocks(DEFAULT, blocks, tuple(pattern), layers or {}, n_layer, repeat=repeat)


def test_a_pattern_repeats_over_the_layers():
    assert [b.label for b in resolve()] == ["local", "local", "default"] * 2


def test_no_pattern_is_the_default_block_everywhere():
    assert resolve(blocks={}, pattern=()) == (DEFAULT,) * 6


def test_a_named_block_differs_only_in_what_it_says():
    local = resolve()[0]
    assert local.spec("attention").options.window == 8
    assert {axis for axis in local.parts if local.spec(axis) != DEFAULT.spec(axis)} == {"attention"}


def test_another_name_starts_from_its_own_defaults_the_same_name_from_the_default_block_s():
    base = DEFAULT.varied("default", {"attention": {"n_kv_head": 2}}, "")
    blocks = {"a": {"attention": {"window": 4}}, "b": {"attention": "linear"}}
    a, b = resolve_blocks(base, blocks, ("a", "b"), {}, 2, repeat=False)
    assert (a.spec("attention").options.n_kv_head, a.spec("attention").options.window) == (2, 4)
    assert b.spec("attention") == registry.spec("attention", "linear")


def test_a_former_name_is_the_same_name():
    with registry.forgotten_afterwards():
        registry.register("attention", "renamed", aliases=["former"])(Renamed)
        base = DEFAULT.varied("default", {"attention": {"name": "renamed", "n_kv_head": 2}}, "")
        (block,) = resolve_blocks(base, {"a": {"attention": {"name": "former"}}}, ("a",), {}, 1, repeat=False)
        assert block.parts == base.parts


def test_single_layers_can_be_overridden():
    assert [b.label for b in resolve(layers={"0": "default"})][:2] == ["default", "local"]


def test_a_single_layer_may_say_what_differs_there():
    layers = {"0": {"attention": {"window": 4}, "norm": "layernorm"}, "5": {"attention": "linear"}}
    resolved = resolve(layers=layers)
    assert [str(block.spec("attention")) for block in resolved] == [
        "causal(window=4)", "causal(window=8)", "causal", "causal(window=8)", "causal(window=8)", "linear",
    ]  # fmt: skip
    assert [block.label for block in resolved] == ["layer 0", "local", "default", "local", "local", "layer 5"]
    assert resolved[0].spec("norm").name == "layernorm"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"n_layer": 5}, r"pattern: its 3 blocks do not divide model\.n_layer=5"),
        ({"pattern": ["lokal"]}, r"pattern\[0\]: there is no block named 'lokal'\. Did you mean 'local'\?"),
        ({"layers": {"6": "local"}}, r"layers\.6: there is no such layer; layers are 0 to 5"),
        ({"layers": {"0": "x"}}, r"layers\.0: there is no block named 'x'"),
        ({"pattern": ["default"]}, r"blocks\.local: no layer uses this block"),
        (
            {"blocks": {"local": {"atention": "linear"}}},
            r"blocks\.local\.atention: unknown key.*Did you mean 'attention'",
        ),
        (
            {"blocks": {"local": {"attention": {"windw": 3}}}},
            r"blocks\.local\.attention\.windw: .*Did you mean 'window'",
        ),
        ({"blocks": {"local": 3}}, r"blocks\.local: expected axes and their choices, such as .*got '3'"),
        ({"blocks": {"a\nb": {}}}, r"blocks\.a\\nb: 'a\\nb': expected one line"),
        (
            {"pattern": ["linear"]},
            r"(?s)pattern\[0\]: .*'linear' is a choice of attention, linear: make a block of it with "
            r"blocks=\{linear: \{attention: linear\}\}",
        ),
        ({"pattern": ["gqa"]}, r"make a block of it with blocks=\{gqa: \{attention: gqa\}\}"),
        ({"layers": {"0": {"atention": "linear"}}}, r"layers\.0\.atention: unknown key.*Did you mean 'attention'"),
        ({"layers": {"-1": "local"}}, r"layers\.-1: there is no such layer"),
        ({"layers": {"1" * 5000: "local"}}, r"layers\.1{120}\.\.\.: there is no such layer"),
        ({"blocks": {"default": {}}}, r"blocks\.default: the top-level component keys are the default block"),
    ],
)
def test_what_cannot_be_laid_out_is_refused(given, message):
    with pytest.raises(UserError, match=message):
        resolve(**given)


def test_a_pattern_may_be_cut_short_when_it_says_so():
    assert [b.label for b in resolve(n_layer=5, repeat=True)] == ["local", "local", "default", "local", "local"]


def test_a_site_starts_from_the_block_s_part_of_the_same_name_and_named_blocks_inherit_it():
    default = DEFAULT.varied(
        "default", {"linear": "ternary", "sites": {"linear": {"down": {"activation_bits": 4}}}}, ""
    )
    assert default.spec("linear", "down").options.activation_bits == 4
    assert default.spec("linear", "up").options.activation_bits == 8
    other = default.varied("other", {"sites": {"linear": {"q": "linear"}, "norm": {"qk": "layernorm"}}}, "blocks.other")
    assert [other.spec("linear", site).name for site in ("down", "q", "k")] == ["ternary", "linear", "ternary"]
    assert (other.spec("norm", "qk").name, other.spec("norm").name) == ("layernorm", "rmsnorm")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sites": {"linaer": {"down": "ternary"}}}, r"sites\.linaer: there is no axis of blocks named.*'linear'"),
        ({"sites": {"linear": "ternary"}}, r"sites\.linear: expected sites, such as \{down: ...\}"),
        (
            {"sites": {"linear": {"down": {"name": "ternary", "bits": 3}}}},
            r"sites\.linear\.down\.bits: 'ternary' has no option",
        ),
        ({"sites": 3}, r"sites: expected axes with their sites"),
    ],
)
def test_sites_that_mean_nothing_are_refused(given, message):
    with pytest.raises(UserError, match=message):
        DEFAULT.varied("x", given, "blocks.x")


@pytest.mark.parametrize(
    ("share", "owners"),
    [
        ({}, [0, 1, 2, 3, 4, 5]),
        ({"mlp": "cycle"}, [0] * 6),
        ({"mlp": "cycle", "distinct": 4}, [0, 1, 2, 3, 0, 1]),
        ({"mlp": "run", "distinct": 3}, [0, 0, 2, 2, 4, 4]),
        ({"mlp": "mirror"}, [0, 1, 2, 2, 1, 0]),
        ({"mlp": "mirror", "distinct": 2}, [0, 1, 1, 0, 0, 1]),
        ({"mlp": "run", "distinct": 6}, [0, 1, 2, 3, 4, 5]),
    ],
)
def test_layers_share_by_run_by_cycle_and_mirrored(share, owners):
    assert typed(ShareSpec, share).owners("mlp", 6) == owners


@pytest.mark.parametrize(
    ("share", "message"),
    [
        ({"distinct": 2}, r"share\.distinct: nothing is shared"),
        ({"block": "run", "mlp": "run"}, r"share\.block: whole blocks share their attention and their mlp"),
        ({"block": "ran"}, r"block: expected one of none, run, cycle, mirror.*Did you mean 'run'"),
    ],
)
def test_sharing_that_means_nothing_is_refused(share, message):
    with pytest.raises(UserError, match=message):
        typed(ShareSpec, share)


def test_there_are_no_more_different_ones_than_layers():
    with pytest.raises(UserError, match=r"share\.distinct: 7 is more than model\.n_layer=6"):
        typed(ShareSpec, {"mlp": "run", "distinct": 7}).owners("mlp", 6)
