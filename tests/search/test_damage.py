"""What can happen to a study's files, and to those who work on it: nothing blocks it, nothing is lost or doubled."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from minigpt.errors import UserError
from minigpt.search.launcher import FinishedJob
from minigpt.search.points import Point
from minigpt.search.study import Study, outside_errors
from minigpt.search.trials import FILE
from minigpt.training.record import RunRecord, read_run
from tests.search.paper import PaperLauncher
from tests.search.test_study import run, trials


@pytest.fixture
def points(configure) -> list[Point]:
    return [Point({"seed": seed}, configure(seed=seed)) for seed in range(3)]


@pytest.mark.parametrize(
    "content", [b"", b'{"name": "se', b"\xff\xfe\x00", b"[1, 2]", b'{"nmae": 1}', b'{"name": "x"}']
)
def test_a_record_that_cannot_be_read_is_set_aside_and_its_point_trained_again(tmp_path, points, capsys, content):
    folder = tmp_path / "study"
    damaged = run(folder, points)[1].folder
    (damaged / "run.json").write_bytes(content)
    assert list(run(folder, points)) == [1]
    said = capsys.readouterr().out
    assert f"{damaged / 'run.json'}: " in said
    assert f"set aside as {damaged.name}.damaged-1" in said
    assert (damaged.with_name(damaged.name + ".damaged-1") / "run.json").read_bytes() == content
    assert list(run(folder, points)) == []
    assert "damaged" not in capsys.readouterr().out


def test_a_database_that_another_program_holds_is_not_taken_for_a_torn_one(tmp_path, points, monkeypatch):
    folder = tmp_path / "study"
    run(folder, points)
    monkeypatch.setattr("minigpt.search.trials._WAIT_SECONDS", 0.1)
    other = sqlite3.connect(folder / FILE)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(UserError, match=r"study\.db: another program is writing to it"):
        run(folder, points)
    other.rollback()
    other.close()
    assert list(run(folder, points)) == []
    assert not list(folder.glob("*.broken-*"))


@pytest.mark.parametrize("tear", [b"no database at all", b"", None])
def test_a_torn_database_is_set_aside_and_made_anew_from_the_records(tmp_path, points, capsys, tear):
    folder = tmp_path / "study"
    run(folder, points, PaperLauncher(lambda run: None if run.seed == 1 else 2.0))
    whole = (folder / FILE).read_bytes()
    (folder / FILE).write_bytes(whole[: len(whole) // 2] if tear is None else tear)
    assert list(run(folder, points)) == []
    assert f"set aside as {FILE}.broken-1 and made anew" in capsys.readouterr().out
    assert [(t.number, t.state.name, t.value) for t in trials(folder)] == [
        (0, "COMPLETE", 2.0),
        (1, "FAIL", None),
        (2, "COMPLETE", 2.0),
    ]
    assert [t.params["seed"] for t in trials(folder)] == [0, 1, 2]


def test_a_study_that_is_moved_or_copied_keeps_its_trials_and_gets_no_others(tmp_path, points):
    run(tmp_path / "first", points)
    shutil.copytree(tmp_path / "first", tmp_path / "copy")
    (tmp_path / "first").rename(tmp_path / "moved")
    for name in ("copy", "moved"):
        assert list(run(tmp_path / name, points)) == []
        assert len(trials(tmp_path / name)) == 3
        with sqlite3.connect(tmp_path / name / FILE) as db:
            assert db.execute("SELECT study_name FROM studies").fetchall() == [(name,)]
            assert db.execute("SELECT COUNT(*) FROM trials").fetchone() == (3,)


def test_a_stopped_worker_of_a_killed_sweep_is_named_and_so_is_the_way_out(tmp_path, points, capsys):
    folder = tmp_path / "study"
    with pytest.raises(KeyboardInterrupt):
        run(folder, points[:1], PaperLauncher(dies_at=0))
    trial = next(folder.glob("*/run.json")).parent
    read_run(trial).updated(status="running")
    held = "import sys, time\nfrom pathlib import Path\nfrom minigpt.search.worker import only_worker_of\n"
    held += "with only_worker_of(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)\n"
    worker = subprocess.Popen([sys.executable, "-c", held, str(trial)], stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    assert worker.stdout.readline() == "held\n"
    worker.send_signal(signal.SIGSTOP)
    end = f"import os, time; time.sleep(5); os.kill({worker.pid}, 9)"
    ender = subprocess.Popen([sys.executable, "-c", end])
    started = time.monotonic()
    assert list(run(folder, points[:1])) == [0]
    assert time.monotonic() - started >= 3
    said = capsys.readouterr().out
    assert f"{trial}: waiting for its worker, process {worker.pid} (" in said
    assert "which an earlier start has left stopped" in said
    assert f"kill -CONT {worker.pid}" in said
    worker.wait()
    ender.wait()


def test_a_trial_that_met_a_full_disk_is_tried_again(tmp_path, points):
    class FullDisk(PaperLauncher):
        def run(self, jobs):
            for job in jobs:
                (job.folder / "trial.log").write_text(f"OSError: [Errno 28] {os.strerror(errno.ENOSPC)}\n")
                yield FinishedJob(job, 1)

    folder = tmp_path / "study"
    ended = run(folder, points[:1], FullDisk())
    assert (ended[0].status, ended[0].reason.split(":")[0]) == ("interrupted", "disk full")
    assert list(run(folder, points[:1])) == [0]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "run.json"),
            "run.json: disk full (No space left on device). When",
        ),
        (
            OSError(errno.EROFS, os.strerror(errno.EROFS), "x"),
            "x: could not be written, the file system is read-only. When",
        ),
        (sqlite3.OperationalError("disk I/O error"), "study.db could not be written (disk I/O error)"),
    ],
)
def test_a_disk_that_does_not_write_is_one_line(tmp_path, error, message):
    with pytest.raises(UserError) as said, outside_errors(tmp_path):
        raise error
    assert message in str(said.value)


@pytest.mark.parametrize("room", [0, 16, 48, 96])
def test_a_disk_with_no_room_for_the_database_is_one_line_and_the_study_goes_on(make_disk, points, room):
    disk = make_disk("4m")
    (disk / "full").write_bytes(b"x" * ((4096 - room) << 10))
    with pytest.raises(UserError, match=r"disk|room"), outside_errors(disk):
        run(disk / "study", points[:1])
    (disk / "full").unlink()
    assert list(run(disk / "study", points[:1])) == [0]


def test_an_error_that_is_none_of_the_disk_stays_what_it_is(tmp_path):
    with pytest.raises(ConnectionError), outside_errors(tmp_path):
        raise ConnectionError("no")


def test_a_record_that_is_lost_between_two_starts_is_no_trial_of_the_database(tmp_path, points):
    folder = tmp_path / "study"
    with pytest.raises(KeyboardInterrupt):
        run(folder, points, PaperLauncher(dies_at=1))
    with Study(folder) as study:
        gone = study.records[points[1].identity].folder
    shutil.rmtree(gone)
    assert sorted(run(folder, points)) == [1, 2]
    assert isinstance(read_run(folder / gone.name), RunRecord)
    assert all(t.state.is_finished() for t in trials(Path(folder)))


def test_a_result_of_code_that_was_edited_since_is_named_and_trained_anew_beside_it(tmp_path, points, capsys):
    folder = tmp_path / "study"
    before = run(folder, points)
    before[1].updated(code={"norm=rmsnorm": "of yesterday"})
    after = run(folder, points)
    assert list(after) == [1]
    assert after[1].folder == before[1].folder.with_name(before[1].folder.name + "-2")
    said = capsys.readouterr().out
    assert f"{before[1].folder}: not taken over, the code of norm=rmsnorm has changed since" in said
    assert list(run(folder, points)) == []


def test_a_record_of_a_later_minigpt_is_left_alone(tmp_path, points):
    folder = tmp_path / "study"
    trained = run(folder, points[:1])[0].folder
    text = (trained / "run.json").read_text()
    (trained / "run.json").write_text(text.replace('"format": 1', '"format": 1000'))
    with pytest.raises(UserError, match="newer than this minigpt reads"):
        run(folder, points[:1])
    assert trained.is_dir()
