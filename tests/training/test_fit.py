"""A whole run: what its folder holds, and every way it can end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
import torch

from minigpt.config import TrainConfig, check, load_yaml
from minigpt.data.dataset import open_dataset
from minigpt.device import Precision
from minigpt.errors import UserError
from minigpt.files import DiskFullError
from minigpt.model import GPT, read_spec
from minigpt.model.checkpoint import load_checkpoint
from minigpt.training.display import summary
from minigpt.training.evaluate import validate
from minigpt.training.fit import fit
from minigpt.training.metrics import read_metrics
from minigpt.training.record import read_run
from minigpt.training.tasks.next_token import NextToken


@pytest.fixture
def at_loss(monkeypatch):
    """at_loss(n, action) -> action() happens when the n-th training loss is computed."""

    def at_loss(number, action):
        calls = []
        original = NextToken.__call__

        def acting(self, *args):
            calls.append(1)
            if len(calls) == number:
                action()
            return original(self, *args)

        monkeypatch.setattr(NextToken, "__call__", acting)

    return at_loss


def raising(error: BaseException):
    def action():
        raise error

    return action


def test_a_completed_run_is_all_in_its_folder(configure):
    run = configure()
    record = fit(run, overrides={"seed": 0})
    folder = record.folder
    assert record == read_run(folder)
    assert (record.status, record.steps, record.tokens_seen) == ("completed", 20, 20 * 4 * 16)
    assert record.overrides == {"seed": 0}
    assert record.config_hash == run.identity
    stored = check(load_yaml(folder / "config.yaml"), TrainConfig)
    assert stored.identity == run.identity
    model = GPT.on_meta(read_spec(folder))
    assert record.parameters == model.parameter_count()
    assert record.state_bytes_per_token == 2 * 2 * 32 * 4  # keys and values, 2 layers of 32, fp32
    assert record.flops_per_token > 2 * sum(p.numel() for p in model.blocks.parameters() if p.ndim == 2)
    assert record.dataset_hash
    assert record.peak_memory_bytes > 1e6
    assert "completed" in summary(record)
    assert str(folder) in summary(record)


def test_metrics_name_every_value(configure):
    folder = fit(configure()).folder
    lines = read_metrics(folder)
    logs, validations = ([line for line in lines if key in line] for key in ("train_loss", "val_loss"))
    assert [line["step"] for line in logs] == [5, 10, 15, 20]
    assert [line["step"] for line in validations] == [10, 20]
    assert set(logs[0]) == {"step", "tokens", "seconds", "train_loss", "lr", "grad_norm", "tokens_per_second"}
    assert set(validations[0]) == {"step", "tokens", "seconds", "val_loss", "bits_per_byte"}


def test_the_checkpoint_has_the_loss_the_record_claims(configure):
    run = configure()
    record = fit(run)
    dataset = open_dataset("words", run.data.folder, block_size=16, val_tokens=1000)
    for name, loss in (("last", record.val_loss), ("best", record.best_val_loss)):
        loaded = load_checkpoint(record.folder / "checkpoint" / name)
        assert loaded.meta["val_loss"] == loss
        assert loaded.tokenizer == dataset.tokenizer.to_json()
        found = validate(loaded.model, dataset, 4, 16, Precision("fp32", torch.device("cpu")))
        assert found.loss == pytest.approx(loss, rel=1e-6)


def test_the_validation_loss_is_plain_cross_entropy_under_any_task(configure):
    """With a z-loss this large the training loss is twice the other."""
    record = fit(configure(task={"name": "next_token", "z_loss": 0.3}))
    assert record.train_loss > record.val_loss + 1


def test_the_same_configuration_gives_the_same_run(configure):
    losses = [fit(configure(name=name, model={"dropout": 0.1})).val_loss for name in ("a", "b")]
    assert losses[0] == losses[1]
    assert fit(configure(name="c", model={"dropout": 0.1}, seed=1)).val_loss != losses[0]


def test_a_nameless_run_is_called_by_time_and_hash(configure):
    run = configure(name=None, training={"max_steps": 1})
    assert fit(run).name.endswith(run.identity[:6])


def test_an_existing_folder_is_never_overwritten(configure):
    fit(configure(training={"max_steps": 1}))
    before = {p: p.stat().st_mtime_ns for p in (read_run(configure().out + "/run").folder).rglob("*")}
    with pytest.raises(UserError, match=r"run: is there already\. Go on with it by resume=.*run, or choose another"):
        fit(configure(training={"max_steps": 2}))
    assert before == {p: p.stat().st_mtime_ns for p in before}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"device": "gpu"}, "device: there is no device 'gpu'"),
        ({"data": {"name": "verse"}}, "dataset 'verse'"),
        ({"model": {"vocab_size": 3}}, r"model\.vocab_size: 3 is too small"),
        ({"model": {"block_size": 100_000}}, "shorter than the context"),
        ({"attention": {"name": "linear"}, "softmax": {"name": "consmax"}}, "would be ignored"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_written(configure, tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        fit(configure(**changes))
    assert not (tmp_path / "out").exists()


def test_an_out_folder_that_cannot_be_made_is_a_plain_error(configure, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="could not be made"):
        fit(configure(out=str(tmp_path / "file")))


def test_a_huge_rate_ends_as_diverged(configure):
    record = fit(configure(optimizer={"lr": 1e4}, training={"max_steps": 200, "eval_interval": 200}))
    assert record.status == "diverged"
    assert "training loss is" in record.reason
    assert record.steps < 200
    assert record == read_run(record.folder)


def test_a_loss_far_above_guessing_ends_as_diverged(configure):
    record = fit(configure(training={"diverged_above": 0.5}))
    assert record.status == "diverged"
    assert "diverged_above=0.5" in record.reason


def test_weights_that_break_after_the_last_logged_loss_are_seen_by_validation(configure):
    record = fit(configure(optimizer={"lr": 100.0}, training={"max_steps": 1}))
    assert record.status == "diverged"
    assert "validation loss" in record.reason
    assert not (record.folder / "checkpoint").exists()


@pytest.mark.parametrize(
    ("training", "steps"),
    [({"max_steps": None, "max_tokens": 64 * 7 - 1}, 7), ({"max_steps": 9, "max_tokens": 10**9}, 9)],
)
def test_a_budget_ends_a_run_exactly(configure, training, steps):
    record = fit(configure(training=training))
    assert (record.status, record.steps) == ("completed", steps)
    assert read_metrics(record.folder)[-1]["step"] == steps
    assert record.val_loss is not None


def test_a_budget_of_seconds_ends_a_run_and_its_schedule(configure):
    record = fit(configure(training={"max_steps": None, "max_seconds": 0.5, "eval_interval": 10**6, "log_interval": 1}))
    assert record.status == "completed"
    assert 0.5 <= record.wall_seconds < 5
    rates = [line["lr"] for line in read_metrics(record.folder) if "lr" in line]
    assert rates[-1] < 0.3 * max(rates)


def test_patience_ends_a_run_that_stopped_improving(configure):
    training = {"max_steps": 100, "eval_interval": 5, "patience": 2, "min_delta": 100.0}
    record = fit(configure(training=training))
    assert record.status == "completed"
    assert record.steps == 15  # the first validation counts as the best, the next two are not better by 100
    assert "stopped early" in record.reason


def test_patience_starts_again_with_every_improvement(configure):
    record = fit(configure(training={"max_steps": 40, "eval_interval": 5, "patience": 2}))
    assert record.steps == 40


def test_an_exception_is_recorded_and_raised_again(configure, at_loss, tmp_path):
    at_loss(3, raising(ZeroDivisionError("a part that breaks")))
    with pytest.raises(ZeroDivisionError):
        fit(configure())
    record = read_run(tmp_path / "out" / "run")
    assert (record.status, record.reason) == ("failed", "ZeroDivisionError: a part that breaks")


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on the size of files")
def test_a_full_disk_interrupts_the_run_and_leaves_its_last_checkpoint_whole(configure, at_loss, tmp_path):
    """Files may not grow beyond 50 kB from step 13 on: no checkpoint fits, nor does the system have room to pretend."""
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    at_loss(13, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1])))
    try:
        with pytest.raises(DiskFullError, match="disk full"):
            fit(configure())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    record = read_run(tmp_path / "out" / "run")
    assert record.status == "interrupted"
    assert "disk full" in record.reason
    assert load_checkpoint(record.folder / "checkpoint" / "last").meta["step"] == 10
    assert [p.name for p in (record.folder / "checkpoint").iterdir() if p.name.startswith(".")] == []
    assert fit(configure(resume=str(record.folder))).status == "completed"


@pytest.mark.parametrize("error", [MemoryError("no room"), MemoryError(), torch.OutOfMemoryError("no room")])
def test_running_out_of_memory_is_a_result(configure, at_loss, error):
    at_loss(3, raising(error))
    record = fit(configure())
    assert record.status == "out_of_memory"
    assert "training.batch_size" in record.reason


def test_memory_that_cannot_be_had_is_out_of_memory(configure, at_loss):
    at_loss(3, lambda: torch.empty(2**50))
    assert fit(configure()).status == "out_of_memory"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_the_run_goes_on_as_if_nothing_was(configure, at_loss, number):
    whole = fit(configure(name="whole", model={"dropout": 0.2}))
    at_loss(13, lambda: os.kill(os.getpid(), number))
    run = configure(model={"dropout": 0.2})
    stopped = fit(run)
    assert (stopped.status, stopped.steps) == ("interrupted", 13)
    assert signal.Signals(number).name in stopped.reason
    resumed = fit(configure(resume=str(stopped.folder), model={"dropout": 0.2}))
    assert resumed.status == "completed"
    assert same_metrics(resumed.folder) == same_metrics(whole.folder)
    assert weights(resumed.folder) == weights(whole.folder)


def test_an_interrupted_validation_is_done_again(configure, monkeypatch):
    whole = fit(configure(name="whole"))
    run = configure()
    dataset_type = type(open_dataset("words", run.data.folder, block_size=16))
    val_batches, calls = dataset_type.val_batches, []

    def interrupted(self, *sizes):
        for batch in val_batches(self, *sizes):
            calls.append(1)
            if len(calls) == 3:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    monkeypatch.setattr(dataset_type, "val_batches", interrupted)
    stopped = fit(run)
    assert (stopped.status, stopped.steps, stopped.val_loss) == ("interrupted", 10, None)
    resumed = fit(configure(resume=str(stopped.folder)))
    assert same_metrics(resumed.folder) == same_metrics(whole.folder)


def test_layers_that_differ_are_shown_in_a_table(configure, capsys):
    blocks = {"local": {"attention": {"window": 4}}}
    fit(configure(blocks=blocks, pattern=["local", "default"], training={"max_steps": 1}))
    shown = capsys.readouterr().out
    assert "layer  block" in shown
    assert "causal(window=4)" in shown


def test_importing_the_record_does_not_import_torch():
    code = "import sys, minigpt.training.record, train; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def same_metrics(folder) -> list[dict]:
    """Metrics without what a clock decides."""
    clocks = ("seconds", "tokens_per_second")
    return [{k: v for k, v in line.items() if k not in clocks} for line in read_metrics(folder)]


def weights(folder) -> bytes:
    return (folder / "checkpoint" / "last" / "model.safetensors").read_bytes()
