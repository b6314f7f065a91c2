"""Named blocks and patterns: one block per layer, nothing guessed, nothing unused."""

from __future__ import annotations

import pytest

from minigpt import registry
from minigpt.blocks import BlockSpec, resolve_blocks
from minigpt.errors import UserError

DEFAULT = BlockSpec(
    label="default", **{a: registry.spec(a, {"name": registry.HOUSE_DEFAULTS[a]}) for a in registry.BLOCK_AXES}
)
LOCAL = {"local": {"attention": {"window": 8}}}


def resolve(blocks=LOCAL, pattern=("local", "local", "default"), layers=None, n_layer=6, repeat=False):
    return resolve_blocks(DEFAULT, blocks, tuple(pattern), layers or {}, n_layer, repeat=repeat)


def test_a_pattern_repeats_over_the_layers():
    assert [b.label for b in resolve()] == ["local", "local", "default"] * 2


def test_no_pattern_is_the_default_block_everywhere():
    assert resolve(blocks={}, pattern=()) == (DEFAULT,) * 6


def test_a_named_block_differs_only_in_what_it_says():
    local = resolve()[0]
    assert local.attention.options.window == 8
    assert all(getattr(local, axis) == getattr(DEFAULT, axis) for axis in registry.BLOCK_AXES if axis != "attention")


def test_another_name_starts_from_its_own_defaults_the_same_name_from_the_default_block_s():
    base = BlockSpec(**{**vars(DEFAULT), "attention": registry.spec("attention", {"name": "causal", "n_kv_head": 2})})
    blocks = {"a": {"attention": {"window": 4}}, "b": {"attention": "linear"}}
    a, b = resolve_blocks(base, blocks, ("a", "b"), {}, 2, repeat=False)
    assert (a.attention.options.n_kv_head, a.attention.options.window) == (2, 4)
    assert b.attention == registry.spec("attention", "linear")


def test_single_layers_can_be_overridden():
    assert [b.label for b in resolve(layers={"0": "default"})][:2] == ["default", "local"]


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
        ({"blocks": {"default": {}}}, r"blocks\.default: the top-level component keys are the default block"),
    ],
)
def test_what_cannot_be_laid_out_is_refused(given, message):
    with pytest.raises(UserError, match=message):
        resolve(**given)


def test_a_pattern_may_be_cut_short_when_it_says_so():
    assert [b.label for b in resolve(n_layer=5, repeat=True)] == ["local", "local", "default", "local", "local"]
