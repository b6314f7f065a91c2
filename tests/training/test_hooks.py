"""Hooks: told of everything in order, kept in the checkpoint, and what their failure means."""

from __future__ import annotations

import json

import pytest

from minigpt.files import DiskFullError
from minigpt.training.fit import fit
from minigpt.training.hooks.base import Hook
from minigpt.training.hooks.metrics_file import MetricsFile
from minigpt.training.metrics import read_metrics
from minigpt.training.record import read_run
from tests.training.test_fit import same_metrics, weights
from tests.training.test_resume import die_at, stored


class Diary(Hook):
    """Writes down what it is told."""

    def __init__(self):
        self.told = []

    def begin(self, run):
        self.told.append("begin")

    def stepped(self, run):
        self.told.append(f"step {run.at.step}")

    def logged(self, run, line):
        self.told.append(f"log {line['step']}")

    def validated(self, run, line, best):
        self.told.append(f"validation {line['step']} {'best' if best else 'worse'}")

    def saved(self, run, name):
        self.told.append(f"{name} at {run.at.step}")

    def end(self, run, outcome):
        self.told.append(f"end {outcome and outcome.status}")


class StopsAt(Hook):
    """Completes the run at a step."""

    def __init__(self, step):
        self.step = step

    def stepped(self, run):
        if run.at.step == self.step:
            run.stop("enough")


class Counter(Hook):
    """Counts steps over all sessions."""

    def __init__(self):
        self.count = 0

    def stepped(self, run):
        self.count += 1

    def state(self):
        return {"count": self.count}

    def restore(self, state):
        self.count = state["count"]


class Breaks(Hook):
    """Raises when it is told of something."""

    def __init__(self, method):
        setattr(self, method, self.fail)

    def fail(self, *_):
        raise ZeroDivisionError("a hook that breaks")


def test_a_hook_is_told_of_everything_in_order(configure):
    diary = Diary()
    fit(configure(training={"max_steps": 3, "eval_interval": 2, "log_interval": 2}), hooks=[diary])
    first = ["begin", "step 1", "step 2", "log 2", "validation 2 best", "best at 2", "last at 2"]
    assert diary.told == [*first, "step 3", "log 3", "validation 3 best", "best at 3", "last at 3", "end completed"]


def test_a_hook_may_complete_a_run_early(configure):
    record = fit(configure(), hooks=[StopsAt(7)])
    assert (record.status, record.reason, record.steps) == ("completed", "enough", 7)
    assert read_metrics(record.folder)[-1]["val_loss"] == record.val_loss


def test_what_a_hook_keeps_is_in_the_checkpoint(configure):
    folder = fit(configure(training={"max_steps": 10}), hooks=[Counter()]).folder
    again = Counter()
    fit(stored(folder, max_steps=15), hooks=[again])
    assert again.count == 15


def test_two_hooks_of_a_class_keep_each_its_own(configure):
    ahead, fresh = Counter(), Counter()
    ahead.count = 100
    folder = fit(configure(training={"max_steps": 10}), hooks=[fresh, ahead]).folder
    first, second = Counter(), Counter()
    fit(stored(folder, max_steps=15), hooks=[first, second])
    assert (first.count, second.count) == (15, 115)


def test_a_hook_changes_nothing_by_being_there(configure):
    alone, watched = fit(configure(name="alone")), fit(configure(name="watched"), hooks=[Diary(), Counter()])
    assert weights(watched.folder) == weights(alone.folder)
    assert same_metrics(watched.folder) == same_metrics(alone.folder)


@pytest.mark.parametrize("method", ["begin", "stepped", "logged", "validated", "saved", "end"])
def test_a_hook_that_breaks_fails_the_run_and_every_other_hook_sees_its_end(configure, tmp_path, method):
    diary = Diary()
    with pytest.raises(ZeroDivisionError):
        fit(configure(), hooks=[diary, Breaks(method)])
    record = read_run(tmp_path / "out" / "run")
    assert (record.status, record.reason) == ("failed", "ZeroDivisionError: a hook that breaks")
    assert diary.told[-1].startswith("end ")


def test_metrics_that_find_the_disk_full_interrupt_the_run(configure, monkeypatch, tmp_path):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(MetricsFile, "write", full)
    with pytest.raises(DiskFullError, match="No space left"):
        fit(configure())
    assert read_run(tmp_path / "out" / "run").status == "interrupted"


def test_metrics_have_every_line_on_the_disk_before_a_checkpoint_counts_on_them(configure):
    """What a checkpoint says of metrics.jsonl is there, whole, however the run ends afterwards."""
    import torch

    folder = die_at(configure(training={"checkpoint_interval": 7}), step=16)
    state = torch.load(folder / "checkpoint" / "last" / "state.pt", weights_only=True)
    content = (folder / "metrics.jsonl").read_bytes()[: state["hooks"]["MetricsFile"]]
    assert [json.loads(line)["step"] for line in content.splitlines()] == [5, 10, 10]
