"""Every exploration and every search the project ships is composed, and every point of it checked."""

from __future__ import annotations

import dataclasses
import os
import random
from pathlib import Path

import pytest
from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, open_dict

from minigpt import config
from minigpt.config import TrainConfig
from minigpt.search.greedy import SearchConfig
from minigpt.search.points import Point, unique, valid
from minigpt.search.sweeper import StudySweeper
from minigpt.training.fit import fit

ROOT = Path(__file__).parents[2]


def names(folder: str) -> list[str]:
    return sorted(file.stem for file in (ROOT / folder).glob("*.yaml"))


def points_of(name: str, *more: str) -> tuple[list[Point], DictConfig]:
    """Every point of an exploration, checked, and what Hydra makes of its file."""
    arguments = [f"explorations={name}", *more]
    composed = compose("train", arguments, return_hydra_config=True)
    sweeper = StudySweeper(OmegaConf.to_container(composed.hydra.sweeper.params))
    loader = GlobalHydra.instance().config_loader()
    sweeper.setup(hydra_context=HydraContext(callbacks=None, config_loader=loader), task_function=None, config=composed)
    return valid(sweeper.points(arguments), skipped=None), composed


@pytest.mark.parametrize("name", names("explorations"))
def test_every_point_of_an_exploration_is_valid_and_two_of_them_train(hydra, name, data_folder, tmp_path):
    """Two steps of two points, others each day."""
    data = ("data.name=words", f"data.folder={data_folder}", "data.val_tokens=200")
    budget = ("training.max_steps=2", "training.batch_size=2", "device=cpu", f"out={tmp_path}", "workers=1")
    points, composed = points_of(name, *data, *budget)
    assert len(points) == len(unique(points)) > 1
    assert all(set(point.overrides) == set(composed.hydra.sweeper.params) for point in points)
    assert composed.hydra.mode.name == "MULTIRUN"
    for number, point in enumerate(random.Random(os.environ.get("PAIRINGS_SEED", "0")).sample(points, 2)):
        record = fit(dataclasses.replace(point.run, name=str(number), study=None), overrides={})
        assert (record.status, record.steps) == ("completed", 2), f"{point}: {record.reason}"


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
