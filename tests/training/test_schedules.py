"""Learning rates over a run: the published formulas, and what every schedule owes its user."""

from __future__ import annotations

import math

import pytest
import torch

from minigpt import registry
from minigpt.errors import UserError
from minigpt.training.fit import fit
from minigpt.training.metrics import read_metrics

SCHEDULES = registry.names("schedule")


def build(name: str, **options):
    return registry.build(registry.spec("schedule", {"name": name, **options}))


def nanogpt_rate(step: int, rate=1e-3, lowest=1e-4, warmup=100, total=2000) -> float:
    """The schedule of nanoGPT's train.py, written down from its description."""
    if step < warmup:
        return rate * (step + 1) / (warmup + 1)
    progress = (step - warmup) / (total - warmup)
    return lowest + 0.5 * (1 + math.cos(math.pi * progress)) * (rate - lowest)


def test_cosine_with_100_steps_of_warmup_is_nanogpts():
    schedule = build("cosine", warmup_steps=100, min_factor=0.1)
    for step in range(2001):
        assert 1e-3 * schedule.factor(step, 2000) == pytest.approx(nanogpt_rate(step), rel=1e-12)


def test_wsd_is_flat_and_then_falls_in_a_line():
    schedule = build("wsd", warmup_steps=0, decay_fraction=0.5, min_factor=0.2)
    assert [schedule.factor(step, 100) for step in (0, 25, 50)] == [1.0, 1.0, 1.0]
    assert schedule.factor(75, 100) == pytest.approx(0.6)
    assert schedule.factor(100, 100) == pytest.approx(0.2)


def test_wsd_without_decay_stays_flat():
    assert build("wsd", warmup_steps=0, decay_fraction=0.0).factor(100, 100) == 1.0


@pytest.mark.parametrize("name", SCHEDULES)
def test_warmup_is_on_by_default_and_rises_from_the_first_step(name):
    rising = [build(name).factor(step, 1000) for step in range(51)]
    assert 0 < rising[0] < 0.05
    assert rising == sorted(rising)
    assert rising[50] == pytest.approx(1.0)


@pytest.mark.parametrize("name", SCHEDULES)
def test_warmup_steps_are_those_of_the_warmup(name):
    schedule = build(name, warmup_steps=4)
    assert [schedule.factor(step, 100) for step in range(5)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_warmup_said_in_two_ways_is_refused(name):
    with pytest.raises(UserError, match=r"warmup_fraction: 0\.5 would do nothing beside warmup_steps=4\. Give one"):
        build(name, warmup_steps=4, warmup_fraction=0.5)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("wsd", {"decay_fraction": 0.0, "min_factor": 0.5}, "min_factor: 0.5 would do nothing with decay_fraction=0"),
        ("step", {"milestones": []}, "milestones: none, so the rate would never fall. Take schedule=constant"),
        ("step", {"milestones": [0.5, 0.5]}, "milestones: expected rising ones, such as .*, got 0.5, 0.5"),
        ("step", {"milestones": [1.0]}, r"milestones\[0\]: 1.0 is out of range, expected > 0 and < 1"),
        ("step", {"gamma": 1.0}, "gamma: 1.0 is out of range, expected > 0 and < 1"),
        ("exponential", {"min_factor": 0.0}, "min_factor: 0.0 is out of range, expected > 0 and <= 1"),
    ],
)
def test_what_would_do_nothing_or_cannot_be_is_refused(name, options, message):
    with pytest.raises(UserError, match=message):
        build(name, **options)


def torch_rates(kind: type, steps: int, **options) -> list[float]:
    """The rate before each of so many steps of torch's scheduler, at a base rate of 1."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = kind(optimizer, **options)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize(
    ("name", "options", "theirs", "their_options"),
    [
        ("constant", {}, "ConstantLR", {"factor": 1.0}),
        ("linear", {"min_factor": 0.2}, "LinearLR", {"start_factor": 1.0, "end_factor": 0.2, "total_iters": 100}),
        ("cosine", {"min_factor": 0.1}, "CosineAnnealingLR", {"T_max": 100, "eta_min": 0.1}),
        ("exponential", {"min_factor": 0.5}, "ExponentialLR", {"gamma": 0.5 ** (1 / 100)}),
        ("step", {"milestones": [0.25, 0.8], "gamma": 0.3}, "MultiStepLR", {"milestones": [25, 80], "gamma": 0.3}),
    ],
)
def test_after_warmup_it_is_torchs_scheduler(name, options, theirs, their_options):
    schedule = build(name, warmup_steps=10, **options)
    ours = [schedule.factor(step, 110) for step in range(10, 110)]
    assert ours == pytest.approx(torch_rates(getattr(torch.optim.lr_scheduler, theirs), 100, **their_options), rel=1e-9)


def test_every_warmup_is_torchs_line():
    line = torch_rates(torch.optim.lr_scheduler.LinearLR, 10, start_factor=1 / 11, end_factor=1.0, total_iters=10)
    assert [build("cosine", warmup_steps=10).factor(step, 100) for step in range(10)] == pytest.approx(line)


def test_inverse_sqrt_is_the_transformers_own():
    """Vaswani et al. 2017: min(n^-0.5, n w^-1.5) of step n from 1 on, as a share of its peak at n = w."""
    schedule, w = build("inverse_sqrt", warmup_steps=39), 40
    published = [min(n**-0.5, n * w**-1.5) / w**-0.5 for n in range(1, 401)]
    assert [schedule.factor(n - 1, 400) for n in range(1, 401)] == pytest.approx(published)


def test_inverse_sqrt_falls_to_one_over_root_two_in_its_timescale_whatever_the_run():
    schedule = build("inverse_sqrt", warmup_steps=10, timescale=30)
    for total in (50, 5000):
        assert schedule.factor(40, total) == pytest.approx(0.5**0.5)


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_real_run_moves_at_the_rates_of_its_schedule(configure, name):
    training = {"max_steps": 8, "log_interval": 1, "eval_interval": 8}
    run = configure(schedule={"name": name, "warmup_steps": 2}, training=training)
    rates = [line["lr"] for line in read_metrics(fit(run).folder) if "lr" in line]
    schedule = build(name, warmup_steps=2)
    assert rates == [run.optimizer.options.lr * schedule.factor(step, 8) for step in range(8)]
    assert rates[0] < rates[2]
    assert (rates[-1] == rates[2]) == (name == "constant")


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("total", [1, 2, 7, 1e9])
def test_every_factor_is_between_zero_and_one(name, total):
    for schedule in (build(name), build(name, warmup_steps=100), build(name, warmup_fraction=0.0)):
        assert all(0 <= schedule.factor(step, total) <= 1 for step in (0, 1, 2, 6, total - 1, total, total + 5))
