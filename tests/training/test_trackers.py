"""Trackers see what metrics.jsonl holds, and never end a run."""

from __future__ import annotations

import sys
import time

import pytest

from minigpt.training import trackers
from minigpt.training.fit import fit


def test_tensorboard_has_every_metric_by_name(configure):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = fit(configure(logger={"name": "tensorboard"})).folder
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    assert {"train_loss", "val_loss", "bits_per_byte", "lr", "grad_norm"} <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Scalars("val_loss")] == [10, 20]


def test_wandb_works_offline_without_an_account(configure, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    began = time.monotonic()
    folder = fit(configure(logger={"name": "wandb"})).folder
    assert list(folder.glob("wandb/offline-run-*/run-*.wandb"))
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("method", ["__init__", "log", "close"])
def test_a_failing_tracker_warns_once_and_the_run_completes(configure, monkeypatch, capsys, method):
    def fail(*_):
        raise ConnectionError("no route")

    monkeypatch.setattr(trackers.TensorBoard, method, fail)
    assert fit(configure(logger={"name": "tensorboard"})).status == "completed"
    assert capsys.readouterr().err.count("logger=tensorboard failed and is left out: no route") == 1


def test_no_tracker_is_imported_when_none_is_asked_for(configure, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert fit(configure()).status == "completed"
