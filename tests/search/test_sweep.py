"""Sweeps from the command line, with real workers, a real database, and everything that can happen to a trial."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import optuna
import yaml

from minigpt.search.trials import FILE
from minigpt.training.record import RunRecord, find_runs


def records(study: Path) -> dict[str, RunRecord]:
    """By norm and seed."""
    return {f"{r.overrides.get('norm')}-{r.overrides.get('seed')}": r for r in find_runs(study).records}


def optuna_trials(study: Path) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name=study.name, storage=f"sqlite:///{study / FILE}").trials


def until(condition: Callable[[], bool], seconds: float = 240.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def test_every_end_of_a_trial_is_recorded_and_the_others_go_on(command_line):
    norms = "rmsnorm,raising,diverging,hungry,dying"
    command = ("train.py", "-m", "plugins=[failing_norms]", f"norm={norms}", "seed=3", "study=ends", "workers=2")
    study = command_line.folder / "out" / "ends"

    code, output = command_line(*command)
    assert code == 0, output
    assert "4 of 5 trials did not complete" in output
    ends = {r.overrides["norm"]: r for r in find_runs(study).records}
    assert {norm: r.status for norm, r in ends.items()} == {
        "rmsnorm": "completed",
        "raising": "failed",
        "diverging": "diverged",
        "hungry": "out_of_memory",
        "dying": "interrupted",
    }
    assert "no norm today" in ends["raising"].reason
    assert "SIGKILL" in ends["dying"].reason
    assert "no norm today" in (ends["raising"].folder / "trial.log").read_text()
    by_norm = {t.params["norm"]: t for t in optuna_trials(study)}
    assert {n: t.state.name for n, t in by_norm.items()} == {n: "FAIL" for n in ends} | {"rmsnorm": "COMPLETE"}
    assert all(by_norm[n].user_attrs["status"] == r.status for n, r in ends.items())
    assert by_norm["rmsnorm"].value == ends["rmsnorm"].val_loss
    listed = yaml.safe_load((study / "results.yaml").read_text())["trials"]
    assert {t["overrides"]["norm"]: t["status"] for t in listed} == {n: r.status for n, r in ends.items()}

    command_line.mend()
    code, output = command_line(*command)
    assert code == 0, output
    assert "5 trials, 1 to run" in output  # results are not repeated, the killed one is
    assert [t.params["norm"] for t in optuna_trials(study)][5:] == ["dying"]
    assert {r.overrides["norm"]: r.status for r in find_runs(study).records}["dying"] == "completed"


def test_a_sweep_that_is_interrupted_or_killed_goes_on_where_it_stopped(command_line):
    command = (
        "train.py", "-m", "plugins=[failing_norms]", "norm=slow", "seed=0,1", "study=stopped", "workers=2",
        "training.checkpoint_interval=1", "training.max_steps=6",
    )  # fmt: skip
    study = command_line.folder / "out" / "stopped"

    def both_have_a_checkpoint() -> bool:
        return len(list(study.glob("*/checkpoint/last"))) == 2

    sweep = command_line.start(*command)
    until(both_have_a_checkpoint)
    sweep.send_signal(signal.SIGINT)
    output, _ = sweep.communicate(timeout=240)
    assert sweep.returncode == 130, output
    assert {r.status for r in find_runs(study).records} == {"interrupted"}
    assert {t.state.name for t in optuna_trials(study)} == {"FAIL"}

    before = [r.steps for r in find_runs(study).records]
    assert min(before) >= 1
    sweep = command_line.start(*command)
    until(lambda: [log.read_text().count("parameters") for log in study.glob("*/trial.log")] == [2, 2])
    sweep.kill()
    sweep.communicate()
    until(lambda: {r.status for r in find_runs(study).records} == {"interrupted"})  # workers end with their sweep
    assert {t.state.name for t in optuna_trials(study)} == {"FAIL", "RUNNING"}

    command_line.mend()
    code, output = command_line(*command)
    assert code == 0, output
    assert {(r.status, r.steps) for r in find_runs(study).records} == {("completed", 6)}
    assert [t.state.name for t in optuna_trials(study)] == ["FAIL"] * 4 + ["COMPLETE"] * 2


def test_a_sweep_that_nobody_reads_ends_in_silence_and_goes_on_later(command_line):
    command = ("train.py", "-m", "seed=0,1", "study=unread")
    sweep = command_line.start(*command, stderr=subprocess.PIPE)
    assert any("2 trials, 2 to run" in line for line in sweep.stdout)
    sweep.stdout.close()
    assert sweep.stderr.read() == ""  # read to where all that hold it have ended: the workers too
    assert sweep.wait(timeout=60) == 141
    code, output = command_line(*command)
    assert code == 0, output
    assert {r.status for r in find_runs(command_line.folder / "out" / "unread").records} == {"completed"}


def test_workers_of_a_killed_sweep_end_in_silence(command_line):
    command = ("train.py", "-m", "plugins=[failing_norms]", "norm=slow", "seed=0,1", "study=killed")
    sweep = command_line.start(*command, stderr=subprocess.PIPE)
    until(lambda: len(list(command_line.folder.glob("out/killed/*/metrics.jsonl"))) == 1)
    sweep.kill()
    sweep.stdout.close()
    assert sweep.stderr.read() == ""
    sweep.wait()


def test_an_exploration_is_swept_under_its_name_and_the_command_line_wins(command_line):
    folder = command_line.folder / "explorations"
    folder.mkdir()
    (folder / "widths.yaml").write_text(
        "# @package _global_\nhydra: {mode: MULTIRUN, sweeper: {params: {model.d_model: [8, 16], seed: '0,1'}}}\n"
    )
    tiny = [argument for argument in command_line.tiny if "d_model" not in argument]
    command_line.tiny = tiny
    code, output = command_line("train.py", "explorations=widths", "seed=5", "workers=2")
    assert code == 0, output
    found = find_runs(command_line.folder / "out" / "widths").records
    assert sorted((r.overrides["model.d_model"], r.seed) for r in found) == [(8, 5), (16, 5)]
    assert [r.folder.name.rsplit("-", 1)[0] for r in found] == ["d_model16", "d_model8"]


def test_a_bad_point_stops_everything_before_anything_starts(command_line):
    for arguments, message in {
        ("attention=causal,linear", "softmax=softmax,consmax"): "point attention=linear softmax=consmax: ",
        ("softmax=softmax,consmx",): "softmax: there is no softmax named 'consmx'. Did you mean 'consmax'?",
        ("seed=0,1", "name=mine"): "name: trials are named and resumed by their study",
        ("seed=0,x",): "point seed=x: seed: expected a whole number",
    }.items():
        code, output = command_line("train.py", "-m", *arguments)
        assert code == 2, output
        assert message in output
        assert "Traceback" not in output
    assert not (command_line.folder / "out").exists()


def test_parameters_of_a_sweep_are_swept_or_refused_and_never_left_out(command_line):
    folder = command_line.folder / "explorations"
    folder.mkdir()
    (folder / "seeds.yaml").write_text("# @package _global_\nhydra: {sweeper: {params: {seed: [0, 1]}}}\n")
    code, output = command_line("train.py", "explorations=seeds")
    assert code == 0, output
    assert "2 trials, 2 to run" in output
    code, output = command_line("train.py", "explorations=seeds", "hydra.mode=RUN")
    assert code == 2
    assert "hydra.sweeper.params: are a sweep's, this is a single run. Give -m" in output


def test_a_single_run_remembers_what_the_command_line_said(command_line):
    command_line.tiny = [argument for argument in command_line.tiny if "max_steps" not in argument]
    said = ("softmax=consmax", "optimizer.lr=1e-2", "training.max_steps=2", "pattern=[default]", "name=one")
    code, output = command_line("train.py", *said)
    assert code == 0, output
    (record,) = find_runs(command_line.folder / "out").records
    expected = {"softmax": "consmax", "optimizer.lr": 1e-2, "training.max_steps": 2, "pattern": ["default"]}
    assert record.overrides.items() >= expected.items()
    assert not {"name", "device"} & set(record.overrides)
    command_line.tiny = [argument for argument in command_line.tiny if not argument.startswith("model")]
    code, output = command_line(
        "train.py", "-m", "init_from=out/one", "training.max_steps=2", "seed=1,2", "study=from_one"
    )
    assert code == 0, output
    assert {r.parent.split("/")[1] for r in find_runs(command_line.folder / "out" / "from_one").records} == {"one"}


def test_a_sweep_may_skip_what_cannot_be_built_and_says_what(command_line):
    command_line.tiny = [argument for argument in command_line.tiny if "n_head" not in argument]
    grid = ("-m", "attention=causal,linear", "softmax=softmax,consmax", "model.n_head=2,3", "study=skipping")
    code, output = command_line("train.py", *grid, "skip_invalid=true")
    assert code == 0, output
    study = command_line.folder / "out" / "skipping"
    trained = {tuple(r.overrides.values()) for r in find_runs(study).records}
    assert trained == {("causal", "softmax", 2), ("causal", "consmax", 2), ("linear", "softmax", 2)}
    skipped = yaml.safe_load((study / "results.yaml").read_text())["skipped"]
    assert len(skipped) == 5
    assert "skipped: point attention=linear softmax=consmax model.n_head=2: " in output
    assert "point attention=causal softmax=softmax model.n_head=3: model.d_model: 16 is not divisible" in skipped[0]
    code, output = command_line("train.py", *grid, "skip_invalid=true")
    assert "3 trials, 0 to run" in output
    code, output = command_line("train.py", "-m", "model.n_head=3,5", "skip_invalid=true")
    assert (code, "skip_invalid: nothing is left; the first of 2 points" in output) == (2, True)
    code, output = command_line("train.py", "skip_invalid=true")
    assert (code, "skip_invalid: is heeded by sweeps" in output) == (2, True)
