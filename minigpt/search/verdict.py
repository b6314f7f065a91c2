"""Whether a search's winner holds on seeds the search has not seen, as a whole and step by step."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from minigpt.search.decision import Candidate, Comparison, Rule, compare, paired_gains


@dataclass(frozen=True)
class Verdict:
    """holds: better beyond chance, or cheaper at a loss within the rule, as the search claimed. gains: seed -> nats."""

    change: str
    holds: bool
    reason: str
    gains: Mapping[int, float]
    comparison: Comparison


@dataclass(frozen=True)
class FinalVerdict:
    """whole: the winner against the first baseline. steps: each accepted step against the one before it."""

    whole: Verdict
    steps: tuple[Verdict, ...]

    @property
    def words(self) -> str:
        if not self.whole.holds:
            return "does not hold"
        return "holds" if all(step.holds for step in self.steps) else "holds in part"


def judge_path(path: Sequence[Candidate], rule: Rule) -> FinalVerdict:
    """path: the baseline, and what each accepted step has made of it. One large step must not carry the others."""
    steps = tuple(judge(before, after, rule) for before, after in itertools.pairwise(path))
    return FinalVerdict(judge(path[0], path[-1], rule), steps)


def judge(baseline: Candidate, winner: Candidate, rule: Rule) -> Verdict:
    """One configuration against another. It holds when it gains, or when it is cheaper within the rule.

    The rate of exchange is not asked again: it was asked of every single step.
    """
    found = compare(baseline, winner, rule)
    if found.gain is None or found.noise is None:
        return Verdict(winner.change, False, found.reason, {}, found)
    holds = found.accepted or (found.gain > 0 and found.gain >= found.noise)
    return Verdict(winner.change, holds, found.reason, paired_gains(baseline, winner, rule), found)
