"""When a run is over, and how far along it is."""

from __future__ import annotations

import pytest

from minigpt.training.budget import Budget


def test_the_nearest_limit_counts():
    budget = Budget(steps=100, tokens=10_000, seconds=50.0, tokens_per_step=1000)  # 10 steps by tokens
    assert budget.fraction(5, 1.0) == 0.5
    assert budget.fraction(1, 40.0) == 0.8
    assert budget.fraction(10, 0.0) == 1.0
    assert budget.fraction(3, 60.0) == 1.0


def test_tokens_end_a_run_at_the_step_that_reaches_them():
    budget = Budget(steps=None, tokens=2500, seconds=None, tokens_per_step=1000)
    assert budget.fraction(2, 0.0) < 1
    assert budget.fraction(3, 0.0) == 1


def test_total_steps_are_exact_for_steps_and_tokens():
    assert Budget(steps=100, tokens=None, seconds=None, tokens_per_step=10).total_steps(7, 3.0) == 100
    assert Budget(steps=100, tokens=205, seconds=None, tokens_per_step=10).total_steps(7, 3.0) == 21


def test_total_steps_follow_the_pace_where_time_limits():
    budget = Budget(steps=None, tokens=None, seconds=100.0, tokens_per_step=10)
    assert budget.total_steps(50, 25.0) == pytest.approx(200)
    assert budget.total_steps(0, 0.0) > 1e6  # nothing is known yet; the first step's rate is small
