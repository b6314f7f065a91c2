"""The grid against Hydra: every point must be what Hydra itself composes for it, and every refusal the same."""

from __future__ import annotations

import itertools
import re

import pytest
from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import open_dict

from minigpt import config
from minigpt.config import TrainConfig
from minigpt.errors import UserError
from minigpt.search.grid import Grid
from minigpt.search.points import at_point

MASTER = ["hydra/sweeper=study"]


def overrides(texts: list[str]):
    return OverridesParser.create(config_loader=GlobalHydra.instance().config_loader()).parse_overrides(texts)


def by_hydra(texts: list[str]) -> list[TrainConfig | str]:
    """Every point as Hydra composes it, one after the other."""
    loader, master = GlobalHydra.instance().config_loader(), compose("train", [], return_hydra_config=True)
    choices = [
        [f"{o.get_key_element()}={v}" for v in o.sweep_string_iterator()] if o.is_sweep_override() else [o.input_line]
        for o in overrides(texts)
    ]
    swept = [o.is_sweep_override() for o in overrides(texts)]
    found = []
    for point in itertools.product(*choices):
        composed = loader.load_sweep_config(master, list(point))
        with open_dict(composed):
            del composed["hydra"]
        try:
            found.append(config.check(composed, TrainConfig))
        except UserError as error:
            said = [each for each, is_swept in zip(overrides(list(point)), swept, strict=True) if is_swept]
            found.append(str(at_point({o.key_or_group: o.value() for o in said}, error)))
    return found


def by_grid(texts: list[str]) -> list[TrainConfig | str]:
    master = compose("train", [], return_hydra_config=True)
    grid = Grid(GlobalHydra.instance().config_loader(), master, overrides(texts))
    return [str(point) if isinstance(point, UserError) else point.run for point in grid]


GRIDS = {
    "weights of a mix": "++data.mix.pydocs=0.3,0.7 ++data.mix.mine=0.3",
    "values": "++optimizer.lr=1e-3,2e-3,3 ++seed=range(0,3) ++training.max_steps=10",
    "axes and their options": "softmax=softmax,consmax,relumax norm=rmsnorm,layernorm ++norm.eps=1e-5,1e-6",
    "an option only one word has": "attention=causal,linear ++attention.window=4,8",
    "a preset that brings its activation": "mlp=glu,swiglu,gelu_mlp,swiglu_2048 ++seed=0,1",
    "what the command line says of the activation wins": "mlp=swiglu,gelu_mlp activation=relu",
    "presets and what they bring, both swept": "mlp=mlp,swiglu,gelu_mlp activation=silu,gelu,relu",
    "models, and parts that their files choose": "model=default,gpt2,tiny norm=rmsnorm,dyt mlp=gelu_mlp,geglu",
    "models and their sizes": "model=default,gpt2 ++model.d_model=64,128 ++model.n_head=4",
    "presets of one group": "attention=causal,gqa,mqa,sliding ++model.n_layer=1,2",
    "groups that are no axes": "logger=none,wandb data=pydocs,shakespeare_char optimizer=adamw,gpt2,nanogpt",
    "deletions": "softmax=softmax,consmax ~blocks ~model.dropout ++seed=0,1",
    "a deletion of a group": "softmax=softmax,consmax ~logger",
    "a value, and the group around it": "++model={d_model:64,n_head:2},{d_model:32,n_head:1} ++model.n_layer=1,2",
    "a value inside a value that is given": "++model.d_model=64,128 ++model={n_head:2,d_model:32}",
    "components by their options": "norm={eps:1e-3},{eps:1e-4} ++seed=0,1",
    "a word and a group of options on one axis": "norm=layernorm,{eps:1e-3}",
    "lists, texts, nothing": "++pattern=[default],[] ++name=null,'a b','x=y' ++data.val_tokens=null,100",
    "blocks": "++blocks={local:{attention:{window:4}}} ++pattern=[local],[local,default] ++model.n_layer=2,4",
    "an interpolation": "++model.d_model=64,128 ++model.n_layer=${model.n_head}",
    "an interpolation that is swept": "++model.n_layer=${model.n_head},3 ++seed=0,1",
    "keys that are not there": "++model.n_lyer=1,2 ++seed=0,1",
    "a key below a value": "++seed.x=1,2",
    "numbers, true and false are not the same": "++seed=1,1.0,true,'1' ++model.bias=1,true",
    "a combination that is none": "++model.d_model=64,65 ++model.n_head=2,3 softmax=softmax,consmax",
    "an option given beside a swept axis": "attention=causal,gqa ++attention.window=8",
    "an exploration": "explorations=softmax softmax=softmax,consmax ++training.max_steps=3,4",
}


@pytest.mark.parametrize("texts", GRIDS.values(), ids=GRIDS)
def test_a_grid_holds_what_hydra_composes(hydra, texts):
    # a text in quotes may hold a space
    parts = re.findall(r"(?:[^ ']|'[^']*')+", texts)
    assert by_grid(parts) == by_hydra(parts)


@pytest.mark.parametrize("first", ["{name:lion,lr:1e-4}", "{lr:1e-4}"])  # read at once, and put to Hydra
def test_a_component_with_its_options_starts_from_its_own_defaults_whatever_stood_there(hydra, first):
    points = by_grid([f"optimizer={first},{{name:muon,lr:3e-3,adamw_lr:1e-3}},{{name:gpt2}}", "++seed=0,1"])
    expected = [
        *by_hydra([f"optimizer={'lion' if 'lion' in first else 'adamw'}", "++optimizer.lr=1e-4", "++seed=0,1"]),
        *by_hydra(["optimizer=muon", "++optimizer.lr=3e-3", "++optimizer.adamw_lr=1e-3", "++seed=0,1"]),
        *by_hydra(["optimizer=gpt2", "++seed=0,1"]),
    ]
    assert points == expected


def test_a_word_that_is_no_choice_is_what_hydra_says(hydra):
    with pytest.raises(HydraException, match="softmax/consmx"):
        by_grid(["softmax=softmax,consmx"])
