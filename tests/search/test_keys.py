"""Keys of a configuration: those of single layers, whoever chose what is there."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from minigpt import config, schema
from minigpt.config import TrainConfig
from minigpt.errors import UserError
from minigpt.search.greedy import GreedyConfig, GreedySearch
from minigpt.search.keys import axis_of, value_at, word_at
from minigpt.search.points import vary
from minigpt.search.results import FILE
from minigpt.search.space import check_space, moved, start_of
from minigpt.search.study import Study
from tests.search.paper import PaperLauncher

HETEROGENEOUS: dict[str, Any] = {
    "blocks": {"local": {"attention": {"name": "causal", "window": 8}}}, "pattern": ["local", "default"],
    "layers": {"1": {"norm": "layernorm"}},
}  # fmt: skip


def space(**moves: Any):
    content = {key.replace("__", "."): value for key, value in moves.items()}
    return schema.typed(GreedyConfig, {"space": content}, "search").space


@pytest.fixture
def layered(configure):
    """layered(...) -> a checked configuration of two tiny layers."""

    def build(**changes: Any) -> TrainConfig:
        return config.check(schema.plain(configure(model={"n_layer": 2})) | changes, TrainConfig)

    return build


def attention(run: TrainConfig) -> list[str]:
    return [str(block.parts["attention"]) for block in run.resolved_blocks()]


def test_what_a_layer_has_is_found_whoever_chose_it(layered):
    run = layered(**HETEROGENEOUS)
    assert value_at(run, "layers.0.attention") == "causal"
    assert value_at(run, "layers.0.attention.window") == 8
    assert value_at(run, "layers.1.attention.window") is None
    assert [value_at(run, f"layers.{i}.norm") for i in (0, 1)] == ["rmsnorm", "layernorm"]
    assert value_at(run, "layers.0") == "local"
    assert word_at(run, "layers.0.attention", ["gqa", "causal"]).startswith("causal")
    assert word_at(vary(run, {"layers.1.attention": "mqa"}), "layers.1.attention", ["gqa", "mqa"]) == "mqa"


def test_one_part_of_one_layer_changes_and_the_rest_stays(layered):
    run = vary(layered(**HETEROGENEOUS), {"layers.1.attention": "mqa", "layers.0.attention.window": 4})
    assert attention(run) == ["causal(window=4)", "causal(n_kv_head=1)"]
    assert value_at(run, "layers.1.norm") == "layernorm"
    assert attention(layered(**HETEROGENEOUS))[0] == "causal(window=8)"


def test_a_layer_that_is_made_what_it_was_is_the_same_trial(layered):
    base = layered()
    there = vary(base, {"layers.1.attention": "mqa"})
    assert there.identity != base.identity
    assert vary(there, {"layers.1.attention": "causal", "layers.1.attention.n_kv_head": None}).identity == base.identity


def test_a_layer_may_become_another_block_and_one_that_nothing_uses_then_is_gone(layered):
    base = layered(blocks=HETEROGENEOUS["blocks"], pattern=["local", "local"])
    run = vary(base, {"layers.0": "default", "layers.1": "default"})
    assert attention(run) == ["causal", "causal"]
    with pytest.raises(UserError, match=r"this layer is the block 'default'\. Let blocks\.default say what is varied"):
        vary(base, {"layers.0": "default", "layers.0.attention.window": 4})


@pytest.mark.parametrize(
    ("key", "moves", "message"),
    [
        ("layers.9.norm", ["dyt"], r"layers\.9\.norm: there is no such layer; layers are 0 to 1"),
        ("layers.0.nrom", ["dyt"], r"layers\.0\.nrom: there is no such key"),
        ("layers.0.norm", ["dty"], r"there is no norm named 'dty'\. Did you mean 'dyt'"),
        (
            "layers.0",
            ["default", "gqa"],
            r"no block named 'gqa'\. For one part of the layer: layers\.0\.<axis>, such as",
        ),
        ("layers.x.norm", ["dyt"], r"layers\.x\.norm: there is no such key"),
        ("layers.0.optimizer", ["adamw"], r"layers\.0\.optimizer: there is no such key"),
    ],
)
def test_a_layer_s_key_that_makes_no_sense_is_refused(layered, key, moves, message):
    with pytest.raises(UserError, match=message):
        check_space(space(**{key: moves}), layered())


def test_the_options_of_a_layer_s_former_part_go_with_it():
    assert axis_of("layers.1.attention") == axis_of("attention") == "attention"
    assert axis_of("layers.1.attention.window") is axis_of("model.n_layer") is axis_of("layers.1") is None
    changes = {"layers.1.attention.window": 4, "layers.0.attention.window": 4}
    assert moved(changes, "layers.1.attention", "linear") == {
        "layers.0.attention.window": 4, "layers.1.attention": "linear",
    }  # fmt: skip


def test_a_search_over_layers_takes_the_layer_that_gains(tmp_path, layered):
    def loss(run: TrainConfig) -> float:
        names = [block.parts["norm"].name for block in run.resolved_blocks()]
        return 2.0 - 0.1 * (names == ["rmsnorm", "dyt"]) + 0.1 * names.count("layernorm")

    asked = space(layers__0__norm=["rmsnorm", "dyt", "layernorm"], layers__1__norm=["rmsnorm", "dyt", "layernorm"])
    options = schema.typed(GreedyConfig, {"space": schema.plain(asked), "rounds": 3}, "search")
    with Study(tmp_path / "s") as study:
        GreedySearch(layered(), options).run(study, PaperLauncher(loss), 1)
    found = yaml.safe_load((tmp_path / "s" / FILE).read_text())
    assert found["winner"] == {"layers.0.norm": "rmsnorm", "layers.1.norm": "dyt"}
    assert start_of(asked, layered()) == {"layers.0.norm": "rmsnorm", "layers.1.norm": "rmsnorm"}
