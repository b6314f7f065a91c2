"""Mixing datasets: exact shares, any row computed at once, and plain words for what cannot be mixed."""

from __future__ import annotations

import random

import numpy as np
import pytest

from minigpt import config
from minigpt.config import DataConfig
from minigpt.data.dataset import open_data
from minigpt.data.mixing import Schedule, hash_of
from minigpt.data.order import blocks_of
from minigpt.errors import UserError
from minigpt.mixture import Stage, canonical

STEPS, MICRO, SIZE = 50, 2, 8
ROWS = STEPS * MICRO * SIZE


def schedule_of(*stages: Stage, steps: int | None = STEPS) -> Schedule:
    return Schedule.of(stages, steps, MICRO, SIZE)


def sources(schedule: Schedule, seed: int = 0, size: int = SIZE) -> np.ndarray:
    """The dataset of every row of a run."""
    return np.concatenate([schedule.rows(number, size, seed)[0] for number in range(ROWS // size)])


MIXES = [
    schedule_of(Stage(mix={"a": 7, "b": 3})),
    schedule_of(Stage(mix={"a": 1, "b": 1, "c": 1})),
    schedule_of(Stage(mix={"a": 0.9, "b": 0.05, "c": 0.03, "d": 0.02})),
    schedule_of(Stage(mix={"a": 1}, until=0.5), Stage(mix={"a": 1, "b": 1})),
    schedule_of(Stage(mix={"a": 1}, until_step=10), Stage(mix={"b": 1}, until=0.6), Stage(mix={"c": 2, "a": 1})),
    schedule_of(Stage(mix={"a": 1}, to={"b": 1})),
    schedule_of(Stage(mix={"a": 3, "b": 1}, to={"a": 1, "b": 1, "c": 2}, until=0.3), Stage(mix={"c": 1, "b": 1})),
    schedule_of(Stage(mix={"a": 2, "b": 5}), steps=None),
]


@pytest.mark.parametrize("schedule", MIXES)
@pytest.mark.parametrize("seed", [0, 1, 2**62])
def test_after_any_number_of_rows_every_dataset_has_had_its_share(schedule, seed):
    chosen = sources(schedule, seed)
    should = schedule.due(np.arange(1, ROWS + 1), SIZE)
    for number in range(len(schedule.names)):
        had = np.cumsum(chosen == number)
        assert np.abs(had - should[number]).max() < 2


@pytest.mark.parametrize("schedule", MIXES)
def test_rows_of_a_dataset_are_numbered_through_without_a_gap_and_found_in_any_order(schedule):
    batches = [(number, *schedule.rows(number, SIZE, seed=4)) for number in range(ROWS // SIZE)]
    for source in range(len(schedule.names)):
        numbers = np.concatenate([rows[chosen == source] for _, chosen, rows in batches])
        assert numbers.tolist() == list(range(len(numbers)))
    random.Random(0).shuffle(batches)
    for number, chosen, rows in batches:
        again = schedule.rows(number, SIZE, seed=4)
        assert (again[0] == chosen).all()
        assert (again[1] == rows).all()


def test_a_million_steps_in_the_rows_are_still_numbered_without_a_gap():
    schedule = Schedule.of((Stage(mix={"a": 1, "b": 2.7, "c": 0.001}, to={"b": 1, "c": 1}),), 10**8, 1, 512)
    pairs = [schedule.rows(number, 512, seed=9) for number in range(77_000_000, 77_000_020)]
    for source in range(3):
        numbers = np.concatenate([rows[chosen == source] for chosen, rows in pairs])
        assert (np.diff(numbers) == 1).all()


def test_a_stage_begins_and_ends_at_its_step():
    chosen = sources(schedule_of(Stage(mix={"a": 1}, until_step=10), Stage(mix={"b": 1})))
    assert np.flatnonzero(np.diff(chosen)).tolist() in ([10 * MICRO * SIZE - 1], [10 * MICRO * SIZE])


def test_a_mix_goes_over_into_another_in_a_straight_line():
    chosen = sources(schedule_of(Stage(mix={"a": 1}, to={"b": 1})))
    quarters = [(quarter == 1).mean() for quarter in np.split(chosen, 4)]
    assert quarters == pytest.approx([1 / 8, 3 / 8, 5 / 8, 7 / 8], abs=0.01)


def test_the_seed_says_which_dataset_comes_first_and_not_how_much_of_it():
    schedule = schedule_of(Stage(mix={"a": 1, "b": 1, "c": 2}))
    runs = [sources(schedule, seed) for seed in range(30)]
    assert len({tuple(run[:4]) for run in runs}) > 3
    assert {int((run == 2).sum()) for run in runs} <= {ROWS // 2 - 1, ROWS // 2, ROWS // 2 + 1}


A, B = {"a": 1}, {"b": 1}
MISFITS = [
    ([Stage(mix=A, until_step=60), Stage(mix=B)], r"curriculum\[0\]: ends at step 60, and the run at step 50"),
    ([Stage(mix=A, until_step=50), Stage(mix=B)], "the run at step 50: what follows is never used"),
    ([Stage(mix=A, until_step=30), Stage(mix=B, until=0.5), Stage(mix=A)], r"curriculum\[1\]: holds no step"),
    ([Stage(mix=A, until=0.001), Stage(mix=B)], r"curriculum\[0\]: holds no step"),
    ([Stage(mix={"a": 1, "b": 1e-6})], r"'b' would never be used: its weights give it 0\.0008 of the 800 rows"),
]


@pytest.mark.parametrize(("stages", "message"), MISFITS)
def test_stages_that_do_not_fit_the_run_are_refused(stages, message):
    with pytest.raises(UserError, match=message):
        Schedule.of(stages, STEPS, MICRO, SIZE)


@pytest.mark.parametrize("stages", [[Stage(mix=A, until=0.5), Stage(mix=B)], [Stage(mix=A, to=B)]])
def test_shares_of_a_run_that_only_time_ends_are_refused(stages):
    with pytest.raises(UserError, match=r"only training\.max_seconds ends.*use until_step"):
        Schedule.of(stages, None, MICRO, SIZE)


def staged(*stages: dict) -> dict:
    return {"curriculum": list(stages)}


NONSENSE = [
    ({"mix": {"a": 0, "b": 1}}, r"data\.mix\.a: 0.0 is out of range, expected > 0"),
    ({"mix": {"a": -1, "b": 1}}, r"data\.mix\.a: -1.0 is out of range, expected > 0"),
    ({"mix": {"a": float("inf")}}, r"data\.mix\.a: inf is out of range"),
    ({"mix": {"a": float("nan")}}, r"data\.mix\.a: nan is out of range"),
    ({"mix": {"a": "much"}}, r"data\.mix\.a: expected a number"),
    ({"name": "pydoc", "mix": {"pydocs": 1}}, r"'pydoc' is not in the mix \(pydocs\)\. Did you mean 'pydocs'"),
    ({"mix": A, "curriculum": [{"mix": A}]}, "this one would be ignored"),
    (staged({"mix": {}}), r"curriculum\[0\]\.mix: is empty"),
    (staged({"mix": A, "until": 0.5}), r"curriculum\[0\]\.until: the last stage goes to the end"),
    (staged({"mix": A}, {"mix": A}), r"curriculum\[0\]: says not when it ends"),
    (staged({"mix": A, "until": 0.5, "until_step": 3}, {"mix": A}), "both until and until_step"),
    (staged({"mix": A, "until": 0.5}, {"mix": A, "until": 0.4}, {"mix": A}), r"\[1\]\.until: 0\.4 is not after 0\.5"),
    (staged({"mix": A, "until": 1.5}, {"mix": A}), "out of range"),
    (staged({"mix": A, "till": 0.5}), r"curriculum\[0\]\.till: unknown key 'till'\. Did you mean"),
    ({"order": "epoch"}, r"data\.order: expected one of random, epochs, got 'epoch'.*Did you mean 'epochs'"),
]


@pytest.mark.parametrize(("data", "message"), NONSENSE)
def test_a_mix_that_makes_no_sense_is_refused(data, message):
    with pytest.raises(UserError, match=message):
        config.schema.typed(DataConfig, {"name": "a"} | data, "data")


@pytest.mark.parametrize("weight", [5e-324, 1e-300, 1.0, 1e308])
def test_weights_of_any_size_are_shares(weight):
    schedule = Schedule.of((Stage(mix={"a": weight, "b": weight}),), None, 1, SIZE)
    assert sorted(schedule.rows(0, SIZE, 0)[0].tolist()) == [0] * (SIZE // 2) + [1] * (SIZE // 2)


@pytest.mark.parametrize("name", ["../up", "", "a/b", "nul\0", "-x", "$(x)"])
def test_a_name_that_leads_elsewhere_is_refused(two, name):
    with pytest.raises(UserError):
        opened(DataConfig(**vars(two) | {"mix": {"capitals": 1, name: 1}}))


def test_weights_mean_their_ratios():
    assert canonical({"a": 7, "b": 3}, ()) == canonical({"b": 0.3, "a": 0.7}, ())
    assert canonical({"a": 7, "b": 3}, ()) == canonical({}, (Stage(mix={"a": 70, "b": 30}, to={"b": 3, "a": 7}),))
    assert canonical({"a": 7, "b": 3}, ()) != canonical({"a": 3, "b": 7}, ())


@pytest.fixture
def two(make):
    """Two datasets of one tokenizer whose texts share no letter, and the configuration that mixes them 3 : 1."""
    path = make("capitals", "ABCDEFGHIJKLMNOPQRSTUVWXYZ" * 60, tokenizer="byte")
    make("digits", "0123456789" * 100, tokenizer="byte")
    return DataConfig(name="capitals", folder=str(path.parent), mix={"capitals": 3, "digits": 1})


def opened(data: DataConfig, **keys):
    return open_data(data, block_size=10, schedule=Schedule.of(data.stages, STEPS, MICRO, SIZE), **keys)


@pytest.mark.parametrize("order", ["random", "epochs"])
def test_rows_come_from_the_datasets_in_their_shares_and_none_from_both(two, order):
    dataset = opened(DataConfig(**vars(two) | {"order": order}))
    is_digit = []
    for number in range(MICRO * STEPS):
        batch = dataset.train_batch(number, SIZE, 10, 0)
        here = (batch.inputs >= ord("0")) & (batch.inputs <= ord("9"))
        assert (here.all(dim=1) | ~here.any(dim=1)).all()
        is_digit += here.all(dim=1).tolist()
    assert sum(is_digit) / len(is_digit) == pytest.approx(0.25, abs=2 / ROWS)


def test_each_dataset_of_a_mix_has_epochs_of_its_own(two):
    dataset = opened(DataConfig(**vars(two) | {"order": "epochs"}))
    rows = [row for number in range(MICRO * STEPS) for row in dataset.train_batch(number, SIZE, 10, 0).inputs]
    for source, is_own in zip(dataset.sources, (lambda row: row[0] > 64, lambda row: row[0] < 64), strict=True):
        blocks = blocks_of(len(source.train), 10)
        own = [bytes(row.numpy().astype(np.uint8)) for row in rows if is_own(row)][:blocks]
        text = source.train[: blocks * 10].reshape(blocks, 10).astype(np.uint8)
        assert sorted(own) == sorted(map(bytes, text))[: len(own)] or len(own) == blocks
        assert len(own) < blocks or sorted(own) == sorted(map(bytes, text))


def test_batches_follow_from_seed_and_step_alone(two):
    one, other = opened(two), opened(two)
    later = one.train_batch(40, SIZE, 10, 3)
    for number in range(40):
        other.train_batch(number, SIZE, 10, 3)
    assert (other.train_batch(40, SIZE, 10, 3).inputs == later.inputs).all()
    assert (other.train_batch(40, SIZE, 10, 4).inputs != later.inputs).any()


def test_it_validates_on_the_named_one_and_knows_the_others(two):
    dataset = opened(two)
    assert (dataset.name, list(dataset.others)) == ("capitals", ["digits"])
    assert set(dataset.val.tolist()) <= set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    assert dataset.hash == hash_of(two)
    turned = DataConfig(**vars(two) | {"name": "digits"})
    assert hash_of(turned) != hash_of(two) != dataset.others["digits"].hash


def test_datasets_of_different_tokenizers_are_refused(make, two):
    make("other", "0123456789" * 100, tokenizer="char")
    data = DataConfig(**vars(two) | {"mix": {"capitals": 1, "other": 1}})
    with pytest.raises(
        UserError, match=r"'other' has another tokenizer \(char, 10 tokens\) than 'capitals' \(byte, 256\)"
    ) as found:
        opened(data)
    assert "tokenizer_of=" in str(found.value)


def test_a_dataset_nobody_prepared_is_refused_with_the_nearest(two):
    data = DataConfig(**vars(two) | {"mix": {"capitals": 1, "digit": 1}})
    with pytest.raises(UserError, match=r"dataset 'digit': not prepared .*Did you mean 'digits'"):
        opened(data)
