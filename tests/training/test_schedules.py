"""Learning rates over a run: the published formulas, and what every schedule owes its user."""

from __future__ import annotations

import math

import pytest

from minigpt import registry

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
def test_warmup_steps_count_before_the_fraction(name):
    schedule = build(name, warmup_steps=4, warmup_fraction=0.5)
    assert [schedule.factor(step, 100) for step in range(5)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("total", [1, 2, 7, 1e9])
def test_every_factor_is_between_zero_and_one(name, total):
    for schedule in (build(name), build(name, warmup_steps=100), build(name, warmup_fraction=0.0)):
        assert all(0 <= schedule.factor(step, total) <= 1 for step in (0, 1, 2, 6, total - 1, total, total + 5))
