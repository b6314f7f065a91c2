"""Records: what is written is read back, and what cannot be read is listed and stops nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from minigpt.errors import UserError
from minigpt.training.metrics import read_metrics
from minigpt.training.record import BudgetChange, RunRecord, find_runs, read_run


def record_in(folder: Path, **changes) -> RunRecord:
    folder.mkdir(parents=True)
    record = RunRecord(name=folder.name, status="completed", config_hash="c0ffee", seed=0, folder=folder)
    return record.updated(**changes)


def test_a_record_is_read_back_as_it_was_written(tmp_path):
    budget = BudgetChange(from_step=0, at="2026-11-25T08:00:00+00:00", max_steps=10, max_tokens=None, max_seconds=None)
    record = record_in(
        tmp_path / "a",
        code={"norm=rmsnorm": "1234"},
        budgets=(budget,),
        stage="tuning",
        overrides={"seed": 0, "x": [1]},
    )
    assert read_run(tmp_path / "a") == record
    assert json.loads((tmp_path / "a" / "run.json").read_text())["format"] == 1


DAMAGE = {
    "empty": b"",
    "torn": b'{"name": "a", "status": "comp',
    "latin-1": b'{"name": "caf\xe9"}',
    "a list": b"[1, 2]",
    "a number": b"17",
    "deep": b"[" * 200_000,
    "a huge number": b'{"seed": 1' + b"0" * 400 + b"}",
    "another type": b'{"name": "a", "status": "completed", "config_hash": "c", "seed": "zero"}',
    "another status": b'{"name": "a", "status": "fine", "config_hash": "c", "seed": 0}',
    "a key too many": b'{"name": "a", "status": "completed", "config_hash": "c", "seed": 0, "colour": 1}',
    "a key too few": b'{"name": "a"}',
    "newer": b'{"format": 99, "colour": "red"}',
    "zeros": b"\0" * 4096,
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_record_that_cannot_be_read_is_listed_and_stops_nothing(tmp_path, kind):
    good = [record_in(tmp_path / name) for name in ("a", "z")]
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "run.json").write_bytes(DAMAGE[kind])
    found = find_runs(tmp_path)
    assert found.records == good
    ((folder, reason),) = found.unreadable
    assert folder == tmp_path / "b"
    assert str(tmp_path / "b" / "run.json") in reason
    assert len(reason) < 500
    assert found.complaint().startswith("1 records could not be read:")
    with pytest.raises(UserError, match=r"Update minigpt" if kind == "newer" else r"run\.json"):
        read_run(tmp_path / "b")


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_a_record_that_is_no_file_of_its_own_is_listed(tmp_path, kind):
    record_in(tmp_path / "a")
    (tmp_path / "b").mkdir()
    file = tmp_path / "b" / "run.json"
    if kind == "link":
        file.symlink_to(tmp_path / "a" / "run.json")
    elif kind == "pipe":
        os.mkfifo(file)
    else:
        file.mkdir()
    found = find_runs(tmp_path)
    assert [record.name for record in found.records] == ["a"]
    assert len(found.unreadable) == 1


def test_many_unreadable_records_are_counted_not_all_shown(tmp_path):
    for name in "abcdefgh":
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").touch()
    complaint = find_runs(tmp_path).complaint()
    assert complaint.startswith("8 records could not be read:")
    assert complaint.endswith("and 3 more")
    assert len(complaint.splitlines()) == 7


@pytest.mark.parametrize("line", ['{"step": 3, "to', "[" * 100_000, "17", "\0\0\0", "café".encode("latin-1")])
def test_a_damaged_line_of_the_metrics_is_left_out(tmp_path, line):
    line = line if isinstance(line, bytes) else line.encode()
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1}\n' + line + b'\n{"step": 2}\n{"step": 3')
    assert read_metrics(tmp_path) == [{"step": 1}, {"step": 2}]
