"""The greedy decision: over records made by hand, and over thousands made by chance."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import pytest

from minigpt.search.decision import Candidate, Rule, compare, decide
from minigpt.search.verdict import judge, judge_path
from minigpt.training.record import RunRecord

RULE = Rule(min_gain_per_cost=0.1, max_loss_per_saving=0.05)


def trained(change: str, losses: dict[int, float], cost: float, status: str = "completed") -> Candidate:
    records = {
        seed: RunRecord(
            name=change, status=status, config_hash="", seed=seed, val_loss=loss, flops_per_token=cost, folder=Path()
        )
        for seed, loss in losses.items()
    }
    return Candidate(change, records)


BASELINE = trained("baseline", {0: 2.0, 1: 2.2}, 100)


def one(gain: float, relative_cost: float, change: str = "candidate") -> Candidate:
    return trained(change, {0: 2.0 - gain, 1: 2.2 - gain}, 100 * (1 + relative_cost))


@pytest.mark.parametrize(
    ("gain", "relative_cost", "accepted"),
    [
        (0.1, -0.5, True),  # better and cheaper
        (0.1, 0.0, True),
        (0.0, -0.5, True),
        (0.1, 0.5, True),  # 0.2 nats per cost
        (0.01, 0.5, False),  # 0.02
        (-0.01, -0.5, True),  # 0.02 nats per saving
        (-0.1, -0.5, False),  # 0.2
        (-0.1, 0.5, False),
        (-0.1, 0.0, False),
        (0.0, 0.5, False),
        (0.0, 0.0, False),
    ],
)
def test_each_kind_of_step_is_judged_by_its_own_limit(gain, relative_cost, accepted):
    assert compare(BASELINE, one(gain, relative_cost), RULE).accepted is accepted


def test_better_and_cheaper_wins_over_a_large_gain_at_a_price():
    decision = decide(BASELINE, [one(1.0, 0.1, "dear"), one(0.001, -0.001, "cheap")], RULE)
    assert decision.chosen == "cheap"


def test_gains_are_paired_by_seed():
    candidate = trained("candidate", {1: 2.1, 0: 1.9}, 100)  # the other way round, and both 0.1 better
    comparison = compare(BASELINE, candidate, RULE)
    assert comparison.gain == pytest.approx(0.1)
    assert comparison.spread == pytest.approx(0.0)


@pytest.mark.parametrize("status", ["failed", "diverged", "out_of_memory", "interrupted"])
def test_a_candidate_that_did_not_complete_is_never_chosen_and_the_reason_says_so(status):
    good = one(1.0, -0.5)
    bad = dataclasses.replace(good.records[1], status=status, reason="because")
    decision = decide(BASELINE, [Candidate("candidate", {0: good.records[0], 1: bad})], RULE)
    assert decision.chosen is None
    assert decision.comparisons[0].reason == f"seed 1 {status} (because)"


@pytest.mark.parametrize(
    ("candidate", "reason"),
    [
        (Candidate("c", {0: one(1, 0).records[0], 1: None}), "seed 1 has no result yet"),
        (Candidate("c", {0: one(1, 0).records[0]}), "trained with other seeds than the baseline"),
        (Candidate("c", {}, "d_model is odd"), "invalid: d_model is odd"),
        (trained("c", {0: float("nan"), 1: 1.0}, 100), "seed 0 has no val_loss"),
    ],
)
def test_what_cannot_be_compared_is_not_chosen(candidate, reason):
    decision = decide(BASELINE, [candidate], RULE)
    assert (decision.chosen, decision.comparisons[0].reason) == (None, reason)


def test_a_cost_that_was_nothing_is_infinitely_dearer():
    free = trained("baseline", {0: 2.0}, 0)
    assert not compare(free, trained("candidate", {0: 1.0}, 5), RULE).accepted
    assert compare(free, trained("candidate", {0: 1.0}, 0), RULE).accepted


def noisy(gains: dict[int, float], relative_cost: float = 0.0) -> Candidate:
    losses = {seed: BASELINE.records[seed].val_loss - gain for seed, gain in gains.items()}
    return trained("candidate", losses, 100 * (1 + relative_cost))


@pytest.mark.parametrize(
    ("gains", "relative_cost", "accepted"),
    [
        ({0: 0.0006, 1: 0.0006}, 0.0, False),  # sure, and next to nothing
        ({0: 0.01, 1: 0.012}, 0.0, True),
        ({0: 0.06, 1: -0.04}, 0.0, False),  # 0.01 +- 0.05
        ({0: 0.06, 1: -0.04}, 0.01, False),  # a good rate of exchange for chance
        ({0: 0.06, 1: -0.04}, -0.01, True),  # as good, and cheaper
        ({0: 0.0006, 1: 0.0006}, -0.1, True),
    ],
)
def test_a_gain_that_could_be_chance_is_no_progress(gains, relative_cost, accepted):
    rule = dataclasses.replace(RULE, min_gain=0.002, noise_factor=1.0)
    found = compare(BASELINE, noisy(gains, relative_cost), rule)
    assert found.accepted is accepted
    assert accepted or "could be chance" in found.reason


def test_one_large_step_does_not_carry_the_others():
    path = [BASELINE, one(0.5, 0.2, "large"), one(0.49, 0.3, "small")]
    verdict = judge_path(path, RULE)
    assert [(step.change, step.holds) for step in verdict.steps] == [("large", True), ("small", False)]
    assert verdict.whole.holds
    assert verdict.words == "holds in part"
    assert judge_path(path[:2], RULE).words == "holds"
    assert judge_path([BASELINE, one(-0.5, 0.2, "worse")], RULE).words == "does not hold"


def test_no_candidate_stops_the_search():
    assert decide(BASELINE, [], RULE).chosen is None


def some_candidates(chance: random.Random) -> list[Candidate]:
    """Few distinct values, so that equals and zeros come up often."""
    gains, costs = [-0.3, -0.01, 0.0, 0.01, 0.2], [-0.5, -0.1, 0.0, 0.1, 0.9]
    return [one(chance.choice(gains), chance.choice(costs), f"c{i}") for i in range(chance.randint(1, 6))]


def test_a_dominated_candidate_is_never_chosen():
    chance = random.Random(0)
    for _ in range(2000):
        decision = decide(BASELINE, some_candidates(chance), RULE)
        chosen = next((c for c in decision.comparisons if c.change == decision.chosen), None)
        for other in decision.comparisons if chosen else ():
            no_worse = other.gain >= chosen.gain and other.relative_cost <= chosen.relative_cost
            assert not (no_worse and (other.gain, other.relative_cost) != (chosen.gain, chosen.relative_cost))


def test_better_and_cheaper_is_always_chosen_when_there_is_one():
    chance = random.Random(1)
    for _ in range(2000):
        decision = decide(BASELINE, some_candidates(chance), RULE)
        both = [c.change for c in decision.comparisons if c.gain > 0 and c.relative_cost < 0]
        chosen = [c for c in decision.comparisons if c.change == decision.chosen]
        assert not both or (chosen[0].gain > 0 and chosen[0].relative_cost <= 0)


def test_the_order_of_candidates_does_not_matter():
    chance = random.Random(2)
    for _ in range(1000):
        candidates = some_candidates(chance)
        shuffled = chance.sample(candidates, len(candidates))
        assert decide(BASELINE, candidates, RULE).chosen == decide(BASELINE, shuffled, RULE).chosen


def test_a_winner_holds_when_it_gains_or_saves_within_the_rule():
    assert judge(BASELINE, one(0.001, 5.0), RULE).holds  # dear, but the price was asked step by step
    assert judge(BASELINE, one(-0.01, -0.5), RULE).holds
    assert not judge(BASELINE, one(-0.01, 0.5), RULE).holds
    assert not judge(BASELINE, Candidate("winner", {0: None, 1: None}), RULE).holds
