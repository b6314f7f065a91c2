"""Runs on epochs, on mixed datasets and through stages: exact when resumed, and measured on every dataset."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
import torch

from minigpt import config
from minigpt.config import TrainConfig, load_yaml
from minigpt.data.preparation import PrepareConfig, prepare
from minigpt.device import Precision
from minigpt.errors import UserError
from minigpt.model.checkpoint import load_checkpoint
from minigpt.search.points import CombinationCheck
from minigpt.training.evaluate import validate
from minigpt.training.fit import fit
from minigpt.training.metrics import read_metrics
from minigpt.training.plan import dataset_of
from minigpt.training.record import read_run
from tests.training.test_fit import same_metrics, weights
from tests.training.test_resume import die_at, last_step, start, stored

STAGES = [{"mix": {"words": 1}, "until": 0.4}, {"mix": {"words": 3, "numbers": 1}, "to": {"numbers": 1}}]


@pytest.fixture(scope="module", autouse=True)
def numbers(data_folder) -> None:
    """A second dataset in the data folder, of the first one's tokenizer: one epoch is 125 blocks of 16."""
    words = random.Random(2)
    (data_folder.parent / "numbers.txt").write_text(" ".join(words.choice(["five", "cost", "a"]) for _ in range(600)))
    keys = {"source": str(data_folder.parent / "numbers.txt"), "name": "numbers", "folder": str(data_folder)}
    prepare(PrepareConfig(**keys, tokenizer_of=str(data_folder / "words")), say=lambda line: None)


DATA = {
    "epochs": {"order": "epochs"},
    "mix": {"mix": {"words": 0.7, "numbers": 0.3}},
    "mixed epochs": {"mix": {"words": 0.2, "numbers": 0.8}, "order": "epochs"},
    "stages": {"curriculum": STAGES, "order": "epochs"},
}


@pytest.mark.parametrize("data", DATA.values(), ids=DATA)
def test_a_run_that_died_goes_on_exactly(configure, data):
    training = {"gradient_accumulation": 2, "batch_size": 3}
    whole = fit(configure(name="whole", data=data, training=training))
    folder = die_at(configure(data=data, training=training | {"checkpoint_interval": 7}), step=16)
    assert fit(stored(folder)).status == "completed"
    assert weights(folder) == weights(whole.folder)
    assert same_metrics(folder) == same_metrics(whole.folder)


def test_a_run_through_stages_killed_at_random_moments_ends_as_if_it_had_not_been(data_folder, tmp_path):
    options = [
        f"data.folder={data_folder}", "data.name=words", "data.val_tokens=300", "device=cpu", "data.order=epochs",
        "data.curriculum=[{mix: {words: 1}, until: 0.4}, {mix: {words: 3, numbers: 1}, to: {numbers: 1}}]",
        "model.d_model=16", "model.n_layer=1", "model.block_size=16", "training.batch_size=4",
        "training.gradient_accumulation=2", "training.threads=1", "training.max_steps=500",
        "training.eval_interval=40", "training.checkpoint_interval=15", "training.log_interval=7",
    ]  # fmt: skip
    whole = start(tmp_path, *options, "name=whole")
    assert whole.wait(240) == 0
    process, folder = start(tmp_path, *options, "name=killed"), tmp_path / "out" / "killed"
    while process.poll() is None and last_step(folder) < 230 + random.randrange(50):
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert start(tmp_path, f"resume={folder}").wait(240) == 0
    assert weights(folder) == weights(tmp_path / "out" / "whole")
    assert same_metrics(folder) == same_metrics(tmp_path / "out" / "whole")


def test_val_loss_is_the_named_datasets_and_every_dataset_has_its_own(configure):
    record = fit(configure(data=DATA["mix"]))
    model = load_checkpoint(record.folder / "checkpoint" / "last", torch.device("cpu")).model
    dataset = dataset_of(configure(data=DATA["mix"]))
    precision = Precision("fp32", torch.device("cpu"))
    alone = {each.name: validate(model, each, 4, 16, precision) for each in (dataset, *dataset.others.values())}
    assert record.val_loss == pytest.approx(alone["words"].loss, rel=1e-6)
    assert record.bits_per_byte == pytest.approx(alone["words"].bits_per_byte, rel=1e-6)
    assert record.figures["val_loss.numbers"] == pytest.approx(alone["numbers"].loss, rel=1e-6)
    assert record.figures["val_loss.words"] == record.val_loss
    assert record.figures["val_loss_mean"] == pytest.approx((alone["words"].loss + alone["numbers"].loss) / 2, rel=1e-6)
    line = next(line for line in read_metrics(record.folder) if "val_loss" in line)
    assert {"val_loss.words", "val_loss.numbers", "val_loss_mean"} <= set(line)
    assert line["val_loss"] == line["val_loss.words"]
    assert record.dataset == "words"


def test_a_run_on_one_dataset_has_no_further_validations(configure):
    record = fit(configure())
    assert not [name for name in record.figures if name.startswith("val_loss")]


def test_val_loss_compares_between_weights(configure):
    """The main dataset's validation is the same whatever the mix: nothing of it is another run's choice."""
    datasets = [dataset_of(configure(data={"mix": {"words": w, "numbers": 1}})) for w in (1, 9)]
    assert (datasets[0].val == datasets[1].val).all()
    assert datasets[0].hash == datasets[1].hash


def test_a_budget_of_tokens_counts_the_tokens_of_all_datasets(configure):
    training = {"max_steps": None, "max_tokens": 16 * 4 * 12}
    record = fit(configure(data={"curriculum": STAGES}, training=training))
    assert (record.steps, record.tokens_seen) == (12, 16 * 4 * 12)


def test_the_weights_decide_the_result_and_how_they_are_written_does_not(configure):
    base = configure()
    said = [
        configure(data={"mix": {"words": 0.7, "numbers": 0.3}}),
        configure(data={"mix": {"words": 0.6, "numbers": 0.4}}),
        configure(data={"curriculum": STAGES}),
        configure(data={"order": "epochs"}),
    ]
    assert len({run.identity for run in (base, *said)}) == 5
    assert configure(data={"mix": {"numbers": 3, "words": 7}}).identity == said[0].identity
    assert configure(data={"order": "random", "mix": {}, "curriculum": []}).identity == base.identity


def test_a_stored_run_is_checked_back_to_the_same(configure):
    run = configure(data={"curriculum": STAGES, "order": "epochs"})
    folder = fit(run).folder
    again = config.check(load_yaml(folder / "config.yaml"), TrainConfig)
    assert again.data == run.data
    assert again.identity == run.identity == read_run(folder).config_hash


def test_every_point_of_a_sweep_over_weights_is_checked_before_any_starts(configure):
    check = CombinationCheck()
    for weight in (0.3, 0.7):
        check(configure(data={"mix": {"words": weight, "numbers": 0.3}}))
    assert len(check._datasets) == 1
    with pytest.raises(UserError, match="'numbers' would never be used"):
        check(configure(data={"mix": {"words": 1, "numbers": 1e-9}}))
    with pytest.raises(UserError, match="'number': not prepared"):
        check(configure(data={"mix": {"words": 1, "number": 1}}))


def test_one_dataset_in_the_mix_is_that_dataset(configure):
    alone, mixed = fit(configure(name="alone")), fit(configure(name="mixed", data={"mix": {"words": 5}}))
    assert weights(alone.folder) == weights(mixed.folder)


def test_a_sweep_over_weights_trains_every_point(data_folder, tmp_path):
    options = [
        "-m", f"data.folder={data_folder}", "data.name=words", "data.val_tokens=300", "device=cpu",
        "data.mix.words=0.3,0.7", "data.mix.numbers=0.3", "model.d_model=16", "model.n_layer=1",
        "model.block_size=16", "training.max_steps=5", "study=weights",
    ]  # fmt: skip
    assert start(tmp_path, *options).wait(240) == 0
    records = [read_run(Path(file).parent) for file in (tmp_path / "out" / "weights").glob("*/run.json")]
    assert sorted(record.overrides["data.mix.words"] for record in records) == [0.3, 0.7]
    assert all("val_loss.numbers" in record.figures for record in records)
