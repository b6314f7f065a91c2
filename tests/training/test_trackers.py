"""Trackers see what metrics.jsonl holds, and never end a run."""

from __future__ import annotations

import contextlib
import sys
import time

import pytest

from minigpt.training.fit import fit
from minigpt.training.hooks import trackers
from minigpt.training.hooks.base import Hook
from tests.training.test_resume import stored


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


def test_a_resumed_run_goes_on_in_the_same_wandb_run(configure):
    folder = fit(configure(logger={"name": "wandb"}, training={"max_steps": 10})).folder
    fit(stored(folder, max_steps=20))
    files = list(folder.glob("wandb/offline-run-*/run-*.wandb"))
    assert len(files) == 2
    assert {file.name for file in files} == {f"run-{(folder / 'wandb.id').read_text()}.wandb"}


@pytest.mark.parametrize("status", ["completed", "failed"])
def test_a_tracker_is_told_how_the_run_ended(configure, monkeypatch, status):
    closed = []
    monkeypatch.setattr(trackers.TensorBoard, "close", lambda self, summary, well: closed.append((well, summary)))

    class Breaks(Hook):
        def stepped(self, run):
            if status == "failed" and run.at.step == 7:
                raise ZeroDivisionError

    with contextlib.suppress(ZeroDivisionError):
        fit(configure(logger={"name": "tensorboard"}), hooks=[Breaks()])
    [(well, summary)] = closed
    assert well == (status == "completed")
    assert summary["steps"] == (20 if well else 7)


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
