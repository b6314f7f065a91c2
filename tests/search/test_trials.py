"""The Optuna database: what another program would read from it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import optuna
import pytest

from minigpt.search.points import Point
from minigpt.search.trials import FILE, TrialStore
from minigpt.training.record import RunRecord


@pytest.fixture
def store(tmp_path):
    store = TrialStore(tmp_path)
    yield store
    store.close()


def enter(store: TrialStore, point: Point, loss: float | None) -> None:
    """Enter a point that completed with a loss, or failed."""
    running = RunRecord(
        name="n", status="running", config_hash=point.identity, seed=0, overrides=point.overrides, folder=Path("folder")
    )
    store.make_room([point.overrides])
    number = store.start(running)
    status = "failed" if loss is None else "completed"
    store.finish(number, dataclasses.replace(running, status=status, reason="why", val_loss=loss))


def read(folder) -> optuna.Study:
    return optuna.load_study(study_name=folder.name, storage=f"sqlite:///{folder / FILE}")


def test_trials_are_ordinary_optuna_trials(store, configure, tmp_path):
    enter(store, Point({"softmax": "consmax", "model.n_layer": 2, "optimizer.lr": 1e-3}, configure()), 2.5)
    enter(store, Point({"softmax": "relumax", "model.n_layer": 9, "optimizer.lr": 1e-1}, configure(seed=1)), None)
    study = read(tmp_path)
    first, second = study.trials
    assert (first.state.name, first.value, second.state.name) == ("COMPLETE", 2.5, "FAIL")
    assert first.params == {"softmax": "consmax", "model.n_layer": 2, "optimizer.lr": 1e-3}
    assert second.user_attrs["status"] == "failed"
    assert second.user_attrs["reason"] == "why"
    assert study.best_trial.user_attrs["config_hash"] == configure().identity


def test_values_of_any_kind_can_come_later(store, configure, tmp_path):
    values = [1, 0.5, [1, None], True]
    for seed, value in enumerate(values):
        enter(store, Point({"key": value, "seed": seed}, configure(seed=seed)), float(seed))
    trials = read(tmp_path).trials
    assert [t.params["key"] for t in trials] == ["1", "0.5", "[1, null]", "true"]
    assert [t.value for t in trials] == [0, 1, 2, 3]
    assert [t.params["seed"] for t in trials] == [0, 1, 2, 3]
    assert trials[0].datetime_complete < trials[-1].datetime_start


def test_a_new_name_on_an_axis_joins_the_study(store, configure, tmp_path):
    enter(store, Point({"softmax": "softmax"}, configure()), 1.0)
    enter(store, Point({"softmax": "written_today"}, configure(seed=1)), 2.0)
    assert [t.params["softmax"] for t in read(tmp_path).trials] == ["softmax", "written_today"]
