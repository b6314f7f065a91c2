"""The folder of a run: one process has it, links of strangers are not followed, a disk that refuses leaves no ruin."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from minigpt import config
from minigpt.config import TrainConfig, load_yaml
from minigpt.errors import UserError
from minigpt.files import DiskFullError
from minigpt.training.fit import fit
from minigpt.training.record import read_run
from minigpt.training.tasks.next_token import NextToken

ROOT = Path(__file__).resolve().parents[2]


def start(folder: Path, data: Path, *arguments: str) -> subprocess.Popen:
    options = [
        f"data.folder={data}", "data.name=words", "data.val_tokens=500", "device=cpu", "model.d_model=32",
        "model.n_layer=2", "model.block_size=16", "training.batch_size=4", "training.threads=1",
        "training.max_steps=100000", "training.eval_interval=20",
    ]  # fmt: skip
    return subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *arguments, *([] if "resume" in arguments[0] else options)],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def until(happened, seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file() and p.name != "metrics.jsonl"}


@pytest.fixture
def live(tmp_path, data_folder):
    """A run that trains: its process and its folder."""
    process, folder = start(tmp_path, data_folder, "name=run"), tmp_path / "out" / "run"
    until(lambda: (folder / "checkpoint" / "last").exists())
    yield process, folder
    process.kill()
    process.wait()


def test_of_two_starts_of_one_name_one_trains_and_the_other_names_it(tmp_path, data_folder):
    started = {seed: start(tmp_path, data_folder, "name=run", f"seed={seed}") for seed in (1, 2)}
    until(lambda: any(process.poll() is not None for process in started.values()))
    (loser,) = (process for process in started.values() if process.poll() is not None)
    (winner,) = (seed for seed, process in started.items() if process.poll() is None)
    assert loser.returncode == 2
    said = loser.stderr.read()
    assert re.match(rf"out/run: is there already, and is being trained by process {started[winner].pid} \(", said)
    assert re.search(r"train\.py [^+]*=", said), "the words as they were typed"
    assert "++" not in said
    folder = tmp_path / "out" / "run"
    until(lambda: (folder / "run.json").exists())
    assert (read_run(folder).seed, load_yaml(folder / "config.yaml")["seed"]) == (winner, winner)
    started[winner].send_signal(signal.SIGINT)
    started[winner].wait(30)
    assert (read_run(folder).status, read_run(folder).seed) == ("interrupted", winner)


def test_a_live_run_is_not_resumed_by_another_process_and_stays_untouched(live, tmp_path, data_folder):
    process, folder = live
    os.kill(process.pid, signal.SIGSTOP)  # so that it writes nothing itself
    before = contents(folder)
    second = start(tmp_path, data_folder, f"resume={folder}")
    assert second.wait(60) == 2
    assert f"{folder}: is being trained by process {process.pid} (" in second.stderr.read()
    assert contents(folder) == before
    os.kill(process.pid, signal.SIGCONT)
    process.send_signal(signal.SIGTERM)
    process.wait(30)
    assert read_run(folder).status == "interrupted"


def test_of_two_resumes_one_goes_on(live, tmp_path, data_folder):
    process, folder = live
    process.kill()
    process.wait()
    metrics = (folder / "metrics.jsonl").stat().st_size
    started = [start(tmp_path, data_folder, f"resume={folder}") for _ in range(2)]
    until(lambda: any(each.poll() is not None for each in started))
    assert sorted(each.poll() is None for each in started) == [False, True]
    (loser,) = (each for each in started if each.poll() is not None)
    (winner,) = (each for each in started if each.poll() is None)
    assert loser.returncode == 2
    assert f"process {winner.pid}" in loser.stderr.read()
    until(lambda: (folder / "metrics.jsonl").stat().st_size > metrics)  # it trains, and heeds what is asked of it
    winner.send_signal(signal.SIGTERM)
    winner.wait(30)
    assert read_run(folder).status == "interrupted"


@pytest.mark.parametrize(
    "left", [(), (".lock",), (".lock", ".config.yaml.0a1b.new"), (".lock", "config.yaml", "model.json")]
)
def test_what_a_start_that_was_killed_before_its_record_left_does_not_block_the_name(configure, tmp_path, left):
    (tmp_path / "out" / "run").mkdir(parents=True)
    for name in left:
        (tmp_path / "out" / "run" / name).touch()
    record = fit(configure())
    assert record.status == "completed"
    assert not set(left) & {path.name for path in record.folder.iterdir()} - {"config.yaml", "model.json"}


@pytest.mark.parametrize("there", ["notes.txt", "run.json", "config.yaml"])
def test_a_folder_with_anything_else_in_it_is_taken(configure, tmp_path, there):
    (tmp_path / "out" / "run").mkdir(parents=True)
    (tmp_path / "out" / "run" / there).write_text("mine")
    with pytest.raises(UserError, match="is there already"):
        fit(configure())
    assert [path.name for path in (tmp_path / "out" / "run").iterdir()] == [there]


@pytest.mark.parametrize("name", ["..", ".", "a/b", "../run"])
def test_a_name_that_leads_elsewhere_is_refused_wherever_it_would_lead(configure, tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="leads out of"):
        fit(configure(out=str(tmp_path / "empty" / "out"), name=name))
    assert not list((tmp_path / "empty").iterdir())


def test_a_run_that_ended_leaves_no_lock(configure):
    record = fit(configure())
    assert not (record.folder / ".lock").exists()


def resumed(folder: Path, **changes) -> TrainConfig:
    content = load_yaml(folder / "config.yaml") | {"resume": str(folder)}
    content["training"] |= changes
    return config.check(content, TrainConfig)


@pytest.mark.parametrize("name", ["run.json", "metrics.jsonl", "config.yaml", "checkpoint", "checkpoint/last"])
def test_a_link_in_a_strangers_run_is_not_followed(configure, tmp_path, name):
    folder = fit(configure()).folder
    outside = tmp_path / "outside"
    (folder / name).rename(outside)
    (folder / name).symlink_to(outside)
    before = outside.read_bytes() if outside.is_file() else sorted(outside.rglob("*"))
    with pytest.raises(UserError, match=f"{name.split('/')[0]}.*: is a link"):
        fit(resumed(folder, max_steps=30))
    assert before == (outside.read_bytes() if outside.is_file() else sorted(outside.rglob("*")))


@pytest.mark.parametrize("torn", ['{"name"', "", "[]", None])
def test_a_run_whose_record_is_torn_says_another_way_to_its_weights(configure, torn):
    folder = fit(configure()).folder
    (folder / "run.json").unlink() if torn is None else (folder / "run.json").write_text(torn)
    with pytest.raises(UserError, match=rf"run\.json.* gone on with\. A new run can .*: init_from={folder}$"):
        fit(resumed(folder, max_steps=30))


def test_an_out_folder_on_a_read_only_disk_is_one_line(configure, make_disk):
    with pytest.raises(UserError, match=r"run: could not be made, the file system is read-only\. Choose another out="):
        fit(configure(out=str(make_disk("1m", "ro"))))


@pytest.mark.parametrize("room", [0, 4, 8, 12, 16, 24])
def test_a_disk_that_is_full_at_the_start_leaves_no_folder_that_blocks_the_name(configure, make_disk, room):
    """Room for none, one, two... of the first files."""
    out = make_disk("4m")
    (out / "full").write_bytes(b"x" * ((4096 - room) << 10))
    with pytest.raises(DiskFullError, match="disk full"):
        fit(configure(out=str(out)))
    (out / "full").unlink()
    if (out / "run").exists():
        assert read_run(out / "run").status == "interrupted"
        assert fit(resumed(out / "run")).status == "completed"
    else:
        assert fit(configure(out=str(out))).status == "completed"


def fill_disk(out: Path) -> None:
    """Leave no room at all on a disk."""
    with (out / "full").open("wb") as file:
        try:
            while True:
                os.write(file.fileno(), b"x" * 4096)
        except OSError:
            pass


def test_a_disk_that_fills_up_interrupts_a_run_which_then_goes_on(configure, make_disk, monkeypatch):
    out, calls, original = make_disk("3m"), [], NextToken.__call__

    def filling(self, *arguments):
        calls.append(1)
        if len(calls) == 13:
            fill_disk(out)
        return original(self, *arguments)

    monkeypatch.setattr(NextToken, "__call__", filling)
    with pytest.raises(DiskFullError, match=r"run.*: disk full.*Make room"):
        fit(configure(out=str(out)))
    record = read_run(out / "run")
    assert (record.status, record.reason.split(":")[0]) == ("interrupted", "disk full")
    (out / "full").unlink()
    assert fit(resumed(out / "run")).status == "completed"


def test_a_run_that_is_moved_while_nobody_trains_it_goes_on(configure, tmp_path):
    folder = fit(configure()).folder
    shutil.move(folder, tmp_path / "elsewhere" / "other")
    record = fit(resumed(tmp_path / "elsewhere" / "other", max_steps=22))
    assert (record.status, record.steps, record.folder) == ("completed", 22, tmp_path / "elsewhere" / "other")
    assert json.loads((record.folder / "run.json").read_text())["name"] == "other"
