"""What a greedy search says while it goes, and its ``results.yaml``: rewritten after every trial."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from minigpt import schema
from minigpt.screen import say
from minigpt.search import results
from minigpt.search.decision import Candidate, Comparison, Decision, Rule, figure
from minigpt.search.points import Point, as_text, unique
from minigpt.search.study import Study
from minigpt.search.verdict import FinalVerdict, Verdict
from minigpt.training.record import RunRecord


class SearchReport:
    """Collects what ``results.yaml`` holds. start: the searched keys' first values."""

    def __init__(self, study: Study, rule: Rule, start: Mapping[str, Any]):
        self._study, self._rule = study, rule
        self._file = results.ResultsFile(study.folder)
        self._rounds: list[dict[str, Any]] = []
        self._ends: dict[str, Any] = {}
        self._start = dict(start)
        self._done = self._of = 0

    def round_begins(self, number: int, changes: Mapping[str, Any], points: Sequence[Point]) -> None:
        """Say where the round starts from and how much there is to train."""
        self._rounds.append({"round": number, "baseline": self._start | dict(changes)})
        self._count(points)
        say(f"round {number}: from {_words(changes)}, {len(points)} trials, {self._of - self._done} to run")

    def trial(self, record: RunRecord, baseline: Candidate | None = None, decision: Decision | None = None) -> None:
        """Say what a trial came to, and write what can be decided by now."""
        self._done += 1
        say("  " + results.progress(self._done, self._of, record, self._rule.quality))
        if baseline is not None and decision is not None:
            self.round_state(baseline, decision)
        else:
            self.write(final=False)

    def round_state(self, baseline: Candidate, decision: Decision, *, final: bool = False) -> None:
        """Write the round as far as it has come."""
        figures = {name: _mean(baseline, name) for name in (self._rule.quality, self._rule.cost)}
        candidates = [_listed(comparison) for comparison in decision.comparisons]
        self._rounds[-1] |= {
            "measured": figures,
            "candidates": candidates,
            "chosen": decision.chosen,
            "reason": decision.reason,
        }
        self.write(final=final)

    def round_ends(self, baseline: Candidate, decision: Decision) -> None:
        """Say what was chosen, or why nothing was."""
        self.round_state(baseline, decision, final=True)
        for comparison in decision.comparisons:
            sign = "+" if comparison.accepted else "-"
            say(f"  {sign} {comparison.change}: {comparison.reason}")
        taken = "take" if decision.chosen else "stop:"
        say(f"round {self._rounds[-1]['round']}: {taken} {decision.reason}")

    def fresh_begins(self, points: Sequence[Point]) -> None:
        """Say that the winner is put to the test."""
        self._count(points)
        say(f"winner on fresh seeds: {len(points)} trials, {self._of - self._done} to run")

    def winner(self, changes: Mapping[str, Any]) -> None:
        """Say what the rounds have led to."""
        self._ends["winner"] = self._start | dict(changes)
        say(f"winner: {_words(changes)}")
        self.write()

    def verdict(self, verdict: FinalVerdict | None) -> None:
        """Say whether it holds, step by step; None when the winner is the baseline and there is nothing to hold."""
        if verdict is None:
            self._ends["verdict"] = {"verdict": "nothing to confirm", "reason": "no step was worth its cost"}
            say("verdict: nothing to confirm, no step was worth its cost")
        else:
            steps = [{"change": step.change, **_confirmed(step, _holds(step))} for step in verdict.steps]
            self._ends["verdict"] = _confirmed(verdict.whole, verdict.words) | {"steps": steps}
            for step in verdict.steps:
                say(f"  {'+' if step.holds else '-'} {step.change} {_holds(step)}: {step.reason}")
            n = len(verdict.whole.gains)
            say(f"verdict on fresh seeds: {verdict.words}; {verdict.whole.reason}, n = {n}")
        self.write()
        say(f"{self._study.folder / results.FILE}")

    def no_baseline(self, baseline: Candidate) -> None:
        """Say that the search cannot begin."""
        bad = [(seed, r) for seed, r in baseline.records.items() if r is None or r.status != "completed"]
        seed, record = bad[0]
        what = f"{record.status} ({record.reason})" if record is not None else "did not end; start again to go on"
        self._ends["verdict"] = {"verdict": "no baseline", "reason": f"seed {seed} {what}"}
        self.write()
        say(f"the baseline cannot be trained: seed {seed} {what}. Its folder says more: {self._study.folder}")

    def write(self, *, final: bool = True) -> None:
        """Rewrite ``results.yaml``; what is not final waits its turn."""
        content = {
            "study": self._study.folder.name,
            "kind": "greedy search",
            "rule": schema.plain(self._rule),
            "baseline": self._start,
            "rounds": self._rounds,
            **self._ends,
        }
        self._file.write(content, self._study.records.values(), final=final)

    def _count(self, points: Sequence[Point]) -> None:
        self._of = len(unique(points))
        self._done = self._of - len(self._study.missing(points))


def _listed(comparison: Comparison) -> dict[str, Any]:
    return {
        "change": comparison.change,
        "accepted": comparison.accepted,
        "reason": comparison.reason,
        "gain": comparison.gain,
        "spread": comparison.spread,
        "relative_cost": comparison.relative_cost if _finite(comparison.relative_cost) else None,
        "seeds": comparison.seeds,
    }


def _holds(step: Verdict) -> str:
    return "holds" if step.holds else "does not hold"


def _confirmed(verdict: Verdict, words: str) -> dict[str, Any]:
    found = _listed(verdict.comparison)
    return {
        "verdict": words,
        "reason": verdict.reason,
        "mean_gain": found["gain"],
        "spread": found["spread"],
        "relative_cost": found["relative_cost"],
        "n": len(verdict.gains),
        "gain_by_seed": dict(verdict.gains),
    }


def _mean(candidate: Candidate, name: str) -> float | None:
    values = [figure(record, name) for record in candidate.records.values() if record is not None]
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _words(changes: Mapping[str, Any]) -> str:
    return " ".join(f"{key}={as_text(value)}" for key, value in changes.items()) or "the baseline"
