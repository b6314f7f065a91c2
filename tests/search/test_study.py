"""The study against a launcher that trains nothing: what is run, what is not, and who may run it."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path

import optuna
import pytest

from minigpt.errors import UserError
from minigpt.search.decision import Candidate, Decision, Rule
from minigpt.search.points import Point
from minigpt.search.report import SearchReport
from minigpt.search.run import sweep
from minigpt.search.study import Study
from minigpt.search.trials import FILE
from minigpt.training.record import RunRecord
from tests.search.paper import PaperLauncher


def run(folder: Path, points: list[Point], launcher: PaperLauncher | None = None) -> dict[str, RunRecord]:
    """Run the points; seed -> record of those that were run."""
    ran = {}
    with Study(folder) as study:
        study.run(points, launcher or PaperLauncher(), 1, lambda point, record: ran.update({point.run.seed: record}))
    return ran


def trials(folder: Path) -> list[optuna.trial.FrozenTrial]:
    """What Optuna itself reads in the database."""
    return optuna.load_study(study_name=folder.name, storage=f"sqlite:///{folder / FILE}").trials


@pytest.fixture
def points(configure) -> list[Point]:
    return [Point({"seed": seed}, configure(seed=seed)) for seed in range(3)]


def test_only_what_is_missing_runs(tmp_path, points):
    folder = tmp_path / "study"
    assert list(run(folder, points[:2])) == [0, 1]
    assert list(run(folder, points)) == [2]
    assert list(run(folder, points)) == []


def test_a_study_that_was_stopped_goes_on(tmp_path, points):
    folder = tmp_path / "study"
    with pytest.raises(KeyboardInterrupt):
        run(folder, points, PaperLauncher(dies_at=1))
    assert sorted(r.parent.name[:5] for r in folder.glob("*/run.json")) == ["seed0", "seed1"]
    assert list(run(folder, points)) == [1, 2]


@pytest.mark.parametrize("name", ["a?b", "a#b", "a%20b", "a%b", "{SCHEMA_VERSION}", "a b&mode=ro", "ü"])
def test_a_study_may_have_any_name_that_a_folder_may_have(tmp_path, points, name):
    for folder in (tmp_path / name, tmp_path / name / "study"):
        run(folder, points[:1])
        assert (folder / FILE).is_file()
        assert list(run(folder, points)) == [1, 2]
        with sqlite3.connect(folder / FILE) as db:
            assert db.execute("SELECT study_name FROM studies").fetchall() == [(folder.name,)]
            assert db.execute("SELECT COUNT(*) FROM trials").fetchone() == (3,)


def test_what_a_study_says_of_records_acts_on_nothing(tmp_path, points, capsys):
    hostile = "\x1b[2J\x9b2J\u202e"
    folder = tmp_path / "study"
    first, second, third = run(folder, points).values()
    first.updated(code={f"norm={hostile}": "0"})
    (second.folder / "run.json").write_text(json.dumps({"name": hostile, hostile: hostile}))
    with Study(folder) as study:
        report = SearchReport(study, Rule(), {})
        failed = third.updated(status="failed", reason=hostile)
        report.round_begins(1, {hostile: hostile}, points)
        report.trial(failed)
        report.round_ends(Candidate("", {2: failed}), Decision(hostile, hostile, ()))
        report.winner({hostile: hostile})
        report.no_baseline(Candidate("", {2: failed}))
    said = capsys.readouterr().out
    assert said.count("\\x1b[2J") >= 7
    assert not set("\x1b\x9b\u202e") & set(said)


def test_deleting_a_trial_runs_it_again_and_losing_the_database_runs_nothing(tmp_path, points):
    folder = tmp_path / "study"
    run(folder, points)
    (folder / "study.db").unlink()
    assert list(run(folder, points)) == []
    assert [t.value for t in trials(folder)] == [0.0, 1.0, 2.0]
    with Study(folder) as study:
        shutil.rmtree(study.records[points[1].identity].folder)
    assert list(run(folder, points)) == [1]


def test_a_sweep_of_which_nothing_completed_says_so(tmp_path, points, capsys):
    run(tmp_path / "study", points, PaperLauncher(lambda run: None))
    assert not sweep(tmp_path / "study", points, workers=1)
    assert "3 of 3 trials did not complete" in capsys.readouterr().out


def test_a_study_is_run_by_one_process(tmp_path):
    with (
        Study(tmp_path / "study"),
        pytest.raises(UserError, match="being run by process"),
        Study(tmp_path / "study"),
    ):
        pass
    with Study(tmp_path / "study"):
        pass


def test_a_run_is_no_study(tmp_path):
    RunRecord(name="run", status="completed", config_hash="", seed=0, folder=tmp_path).write()
    with pytest.raises(UserError, match="is a training run"), Study(tmp_path):
        pass


def test_results_of_data_that_has_changed_since_are_not_taken_over(tmp_path, points):
    folder = tmp_path / "study"
    for record in run(folder, points[:1]).values():
        record.updated(dataset_hash="0" * 64)
    with pytest.raises(UserError, match="was trained on other data"):
        run(folder, points)
