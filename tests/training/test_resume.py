"""Going on with a run: exactly where it stood, or a plain word about why not."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from minigpt import config
from minigpt.config import TrainConfig, load_yaml
from minigpt.data.preparation import PrepareConfig, prepare
from minigpt.errors import UserError
from minigpt.model.checkpoint import load_checkpoint
from minigpt.training.fit import fit
from minigpt.training.metrics import read_metrics
from minigpt.training.record import read_run
from minigpt.training.resume import resumed
from minigpt.training.state import STATE
from tests.training.test_fit import same_metrics, weights

ROOT = Path(__file__).resolve().parents[2]


def stored(folder: Path, **training) -> TrainConfig:
    """What ``resume=<folder> training.<key>=...`` composes."""
    content = load_yaml(folder / "config.yaml") | {"resume": str(folder)}
    content["training"] |= training
    return config.check(content, TrainConfig)


@pytest.fixture
def half(configure) -> Path:
    """The folder of a run that was killed after its first checkpoint, at step 10 of 20."""
    folder = fit(configure(model={"dropout": 0.2}, training={"max_steps": 10})).folder
    config.save_yaml(configure(model={"dropout": 0.2}), folder / "config.yaml")
    read_run(folder).updated(status="running")
    return folder


def test_a_run_killed_at_random_moments_ends_as_if_it_had_not_been(data_folder, tmp_path):
    options = [
        f"data.folder={data_folder}", "data.name=words", "data.val_tokens=500", "device=cpu",
        "model.d_model=32", "model.n_layer=2", "model.block_size=16", "model.dropout=0.3",
        "training.batch_size=4", "training.gradient_accumulation=2", "training.threads=1", "training.max_steps=600",
        "training.eval_interval=40", "training.checkpoint_interval=15", "training.log_interval=7",
    ]  # fmt: skip
    whole = start(tmp_path, *options, "name=whole")
    assert whole.wait(120) == 0
    process, folder, kills = start(tmp_path, *options, "name=killed"), tmp_path / "out" / "killed", 0
    chance = random.Random(time.time_ns())
    for share in (0.1, 0.4, 0.7):
        goal = 600 * share + chance.uniform(0, 100)
        while process.poll() is None and last_step(folder) < goal:
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.03))
        process.kill()
        kills += process.wait() == -signal.SIGKILL
        assert read_run(folder).status in ("running", "completed")
        process = start(tmp_path, f"resume={folder}")
    assert process.wait(120) == 0
    assert kills >= 2  # a machine may be so fast that the last kill finds the run complete
    assert read_run(folder).status == "completed"
    assert weights(folder) == weights(tmp_path / "out" / "whole")
    assert same_metrics(folder) == same_metrics(tmp_path / "out" / "whole")


def start(folder: Path, *arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *arguments],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def last_step(folder: Path) -> int:
    lines = read_metrics(folder)
    return lines[-1]["step"] if lines else 0


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_any_optimizer_in_any_precision_goes_on_exactly(configure, precision, optimizer):
    changes = {"model": {"dropout": 0.2}, "optimizer": {"name": optimizer}}
    whole = fit(configure(name="whole", training={"precision": precision}, **changes))
    cut = configure(training={"precision": precision, "checkpoint_interval": 7}, **changes)
    folder = die_at(cut, step=16)
    assert fit(stored(folder)).status == "completed"
    assert weights(folder) == weights(whole.folder)
    assert same_metrics(folder) == same_metrics(whole.folder)


def test_what_a_schedule_of_weights_has_counted_goes_on_exactly(configure):
    """Updates are counted, not forwards: micro-batches and blocks that are run again count once."""
    sites = {"linear": {"down": {"name": "int_qat", "bits": 2, "warmup": 18}, "up": "adaptive_bits"}}
    training = {"gradient_accumulation": 2, "activation_checkpointing": True, "checkpoint_interval": 7}
    whole = fit(configure(name="whole", sites=sites, training=training))
    folder = die_at(configure(sites=sites, training=training), step=16)
    assert fit(stored(folder)).status == "completed"
    assert weights(folder) == weights(whole.folder)
    assert same_metrics(folder) == same_metrics(whole.folder)
    counts = {int(t) for name, t in load_checkpoint(folder).model.state_dict().items() if name.endswith("updates")}
    assert counts == {whole.steps}


def die_at(run: TrainConfig, step: int) -> Path:
    """Leave a run's folder as a kill at ``step`` leaves it."""
    from minigpt.training.trainer import Trainer

    original = Trainer.step

    def dying(self):
        if self.at.step == step:
            raise SystemExit
        original(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "step", dying)
        with pytest.raises(SystemExit):
            fit(run)
    folder = Path(run.out) / str(run.name)
    read_run(folder).updated(status="running", reason="")
    return folder


def test_a_run_killed_before_its_first_checkpoint_starts_again(configure):
    whole = fit(configure(name="whole"))
    folder = die_at(configure(), step=8)
    assert not (folder / "checkpoint").exists()
    assert last_step(folder) == 5
    record = fit(stored(folder))
    assert (record.status, record.steps) == ("completed", 20)
    assert same_metrics(folder) == same_metrics(whole.folder)


def test_metrics_written_after_the_checkpoint_are_lived_again_not_twice(configure):
    folder = die_at(configure(training={"log_interval": 1}), step=14)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 15, "torn')
    fit(stored(folder))
    assert [line["step"] for line in read_metrics(folder) if "lr" in line] == list(range(1, 21))


def test_a_larger_budget_goes_on_and_is_remembered(configure):
    first = fit(configure())
    longer = fit(stored(first.folder, max_steps=30))
    assert (longer.status, longer.steps, longer.tokens_seen) == ("completed", 30, 30 * 64)
    assert longer.wall_seconds > first.wall_seconds
    assert longer.config_hash != first.config_hash
    assert load_yaml(first.folder / "config.yaml")["training"]["max_steps"] == 30
    assert load_yaml(first.folder / "config.yaml")["resume"] is None


def test_a_complete_run_says_so_and_stays_as_it_is(configure, capsys):
    record = fit(configure())
    before = {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in record.folder.rglob("*")}
    assert fit(stored(record.folder)) == record
    assert "nothing is left to do" in capsys.readouterr().out
    assert before == {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in record.folder.rglob("*")}


def test_a_run_that_lost_patience_stays_complete(configure):
    record = fit(configure(training={"max_steps": 100, "eval_interval": 5, "patience": 1, "min_delta": 50.0}))
    assert record.steps == 10
    assert fit(stored(record.folder)) == record
    assert fit(stored(record.folder, patience=3)).steps == 20


def test_the_overrides_of_a_sweep_survive(configure):
    record = fit(configure(), overrides={"norm": "rmsnorm"})
    assert fit(stored(record.folder, max_steps=21)).overrides == {"norm": "rmsnorm"}


def test_a_diverged_run_does_not_go_on(configure):
    record = fit(configure(optimizer={"lr": 1e4}, training={"max_steps": 100}))
    with pytest.raises(UserError, match=r"diverged .* smaller optimizer\.lr"):
        fit(stored(record.folder))


@pytest.mark.parametrize("file", ["model.safetensors", STATE, "model.json", "meta.json"])
@pytest.mark.parametrize("damage", ["torn", "flipped", "missing"])
def test_a_damaged_checkpoint_is_refused_and_named(half, file, damage):
    path = half / "checkpoint" / "last" / file
    content = path.read_bytes()
    if damage == "torn":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    else:
        path.unlink()
    before = {file: file.read_bytes() for file in half.iterdir() if file.is_file()}
    with pytest.raises(UserError, match=str(path.parent)):
        fit(stored(half))
    assert before == {file: file.read_bytes() for file in half.iterdir() if file.is_file()}


def test_a_state_that_would_execute_code_is_refused(half):
    """A checkpoint whose hashes all fit, from somebody who wants more than to train."""
    import hashlib
    import json
    import pickle

    class Attack:
        def __reduce__(self):
            return (os.system, ("touch hacked",))

    last = half / "checkpoint" / "last"
    content = pickle.dumps({"standing": Attack()})
    (last / STATE).write_bytes(content)
    meta = json.loads((last / "meta.json").read_text())
    meta["files"][STATE] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (last / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(UserError, match=f"{STATE}: cannot be read"):
        fit(stored(half))
    assert not Path("hacked").exists()


def test_a_checkpoint_that_is_gone_is_missed(half):
    shutil.rmtree(half / "checkpoint")
    with pytest.raises(UserError, match="last"):
        fit(stored(half))


def test_a_kill_while_the_checkpoint_was_replaced_loses_nothing(half):
    last = half / "checkpoint" / "last"
    last.rename(last.with_name(".last.old"))
    last.with_name(".last.new").mkdir()
    record = fit(stored(half))
    assert (record.status, record.steps) == ("completed", 20)


def test_another_dataset_of_the_same_name_is_refused(configure, tmp_path):
    (tmp_path / "text.txt").write_text("abcdefghij klmnopqrst uvwxyz äöü €. " * 100)
    keys = {"source": str(tmp_path / "text.txt"), "name": "mine", "folder": str(tmp_path / "data")}
    prepare(PrepareConfig(**keys), say=lambda line: None)
    data = {"name": "mine", "folder": str(tmp_path / "data"), "val_tokens": None}
    folder = fit(configure(data=data)).folder
    (tmp_path / "text.txt").write_text("abcdefghij klmnopqrst uvwxyz äöü €! " * 100)
    prepare(PrepareConfig(**keys, overwrite=True), say=lambda line: None)
    with pytest.raises(UserError, match=r"trained on other data \(dataset hash"):
        fit(stored(folder, max_steps=30))


def test_the_state_is_plain_data(half):
    state = torch.load(half / "checkpoint" / "last" / STATE, weights_only=True)
    assert state["standing"]["step"] == 10
    assert state["standing"]["tokens"] == 10 * 64
    assert {"python", "numpy", "torch"} <= set(state["random"])
    assert not (half / "checkpoint" / "best" / STATE).exists()


def test_a_plugin_given_by_its_file_may_lie_elsewhere(half, tmp_path, monkeypatch):
    (tmp_path / "its_plugin.py").write_text("")
    monkeypatch.chdir(tmp_path)
    content = load_yaml(half / "config.yaml") | {"plugins": ["./old/its_plugin.py"]}
    config.save_yaml(content, half / "config.yaml")
    with pytest.raises(UserError, match=r"needs the plugins it was started with: plugins=\[./old/its_plugin.py\]"):
        resumed({"resume": str(half)}, [f"resume={half}"])
    going_on = {"resume": str(half), "plugins": ["its_plugin.py"]}
    assert resumed(going_on, [f"resume={half}", "plugins=[its_plugin.py]"])["plugins"] == ["its_plugin.py"]
