"""Whether a search's winner holds on seeds the search has not seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from minigpt.search.decision import Candidate, Comparison, Rule, compare, paired_gains


@dataclass(frozen=True)
class Verdict:
    """holds: better, or cheaper at a loss within the rule, as the search claimed. gains: seed -> nats."""

    holds: bool
    reason: str
    gains: Mapping[int, float]
    comparison: Comparison


def judge(baseline: Candidate, winner: Candidate, rule: Rule) -> Verdict:
    """The first baseline against the winner. It holds when it gains, or when it is cheaper within the rule.

    The rate of exchange is not asked again: it was asked of every single step.
    """
    comparison = compare(baseline, winner, rule)
    if comparison.gain is None:
        return Verdict(False, comparison.reason, {}, comparison)
    holds = comparison.gain > 0 or comparison.accepted
    return Verdict(holds, comparison.reason, paired_gains(baseline, winner, rule.quality), comparison)
