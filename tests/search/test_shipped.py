"""Every exploration and every search the project ships is composed, and every point of it checked."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.types import HydraContext
from omegaconf import OmegaConf, open_dict

from minigpt import config
from minigpt.config import TrainConfig
from minigpt.search.greedy import SearchConfig
from minigpt.search.points import unique, valid
from minigpt.search.sweeper import StudySweeper

ROOT = Path(__file__).parents[2]


def names(folder: str) -> list[str]:
    return sorted(file.stem for file in (ROOT / folder).glob("*.yaml"))


@pytest.mark.parametrize("name", names("explorations"))
def test_every_point_of_an_exploration_is_valid(hydra, name):
    arguments = [f"explorations={name}"]
    composed = compose("train", arguments, return_hydra_config=True)
    params = OmegaConf.to_container(composed.hydra.sweeper.params)
    sweeper = StudySweeper(params)
    loader = GlobalHydra.instance().config_loader()
    sweeper.setup(hydra_context=HydraContext(callbacks=None, config_loader=loader), task_function=None, config=composed)
    points = valid(sweeper.points(arguments), skipped=None)
    assert len(points) == len(unique(points)) > 1
    assert all(set(point.overrides) == set(params) for point in points)
    assert composed.hydra.mode.name == "MULTIRUN"


@pytest.mark.parametrize("name", names("conf/search"))
def test_every_search_is_valid(hydra, name):
    asked = config.check(compose("hyperparam_search", [f"search={name}"]), SearchConfig)
    assert asked.search.space


def test_a_search_takes_what_training_takes(hydra):
    search = compose("hyperparam_search", [])
    train = compose("train", [])
    with open_dict(search):
        del search["search"]
    assert set(search) == set(train)
    changed = {"study", "workers", "model", "training", "data"}  # what the demo says for itself
    assert {k: v for k, v in search.items() if k not in changed} == {k: v for k, v in train.items() if k not in changed}
    config.check(search, TrainConfig)
