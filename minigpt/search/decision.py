"""The greedy decision: which candidate, if any, replaces the baseline. Records in, decision out; nothing is run here.

Quality gained is baseline loss minus candidate loss, the mean over the same seeds; of a score that is better when it is
higher, the other way round. Relative cost is candidate cost over baseline cost, minus one. Both keep their sign, and a
ratio compares only gains with prices or losses with savings:

better, not dearer   accepted, and before all others; equally good and cheaper counts too
better, dearer       accepted when the nats gained per relative cost reach ``min_gain_per_cost``; best rate first
worse, cheaper       accepted when the nats lost per relative saving are at most ``max_loss_per_saving``; 0 accepts none
anything else        rejected

A gain that does not come with a saving has to be more than chance: at least ``min_gain`` nats, and ``noise_factor``
standard errors of the gains seed by seed. One seed says nothing of chance: then ``min_gain`` alone holds.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from minigpt.evaluation.names import PREFIX, metric_of
from minigpt.training.record import RunRecord

LOSSES = ("val_loss", "best_val_loss")
CostName = Literal["parameters", "flops_per_token", "state_bytes_per_token", "wall_seconds"]
_RANK = {"better and not dearer": 0, "better and dearer": 1, "worse and cheaper": 2}


@dataclass(frozen=True)
class Rule:
    """What is measured and what it may cost; see the module.

    quality: val_loss, best_val_loss, or ``scores.<task>.<metric>``. higher: whether more of it is better.
    """

    quality: str = "val_loss"
    higher: bool = False
    cost: CostName = "flops_per_token"
    min_gain_per_cost: float = 0.0
    max_loss_per_saving: float = 0.0
    min_gain: float = 0.0
    noise_factor: float = 0.0

    @property
    def unit(self) -> str:
        """What a gain is counted in."""
        return "nats" if self.quality in LOSSES else metric_of(self.quality)


@dataclass(frozen=True)
class Candidate:
    """One configuration, trained once per seed.

    change: what sets it apart from the baseline, such as ``model.n_layer=3``. records: seed -> record, None while it
    has not ended. invalid: why it cannot be run at all.
    """

    change: str
    records: Mapping[int, RunRecord | None]
    invalid: str = ""

    @property
    def completed(self) -> bool:
        """Whether every seed has completed."""
        return all(record is not None and record.status == "completed" for record in self.records.values())


@dataclass(frozen=True)
class Comparison:
    """A candidate against the baseline. accepted: whether it may replace it; reason: why, or why not.

    gain: mean of the gains over the seeds, spread: their sample standard deviation, noise: below it a gain could be
    chance, relative_cost: signed; None where unknown.
    """

    change: str
    accepted: bool
    reason: str
    kind: str = "not comparable"
    gain: float | None = None
    spread: float | None = None
    noise: float | None = None
    relative_cost: float | None = None
    seeds: int = 0

    @property
    def order(self) -> tuple[float, float, float, str]:
        """Sorts the best first; between equals the change's text decides, so that their order never does."""
        gain, dearer = self.gain or 0.0, self.relative_cost or 0.0
        if self.kind == "better and dearer":
            return _RANK[self.kind], -gain / dearer, -gain, self.change
        if self.kind == "worse and cheaper":
            return _RANK[self.kind], gain / dearer, dearer, self.change
        return _RANK[self.kind], -gain, dearer, self.change


@dataclass(frozen=True)
class Decision:
    """chosen: the change that makes the next baseline, None to stop. reason: in one line. comparisons: of all."""

    chosen: str | None
    reason: str
    comparisons: tuple[Comparison, ...]


def decide(baseline: Candidate, candidates: Sequence[Candidate], rule: Rule) -> Decision:
    """Compare every candidate with the baseline, seed by seed, and choose the best accepted one.

    Independent of the order of candidates. A candidate with a seed that failed or is missing is never chosen.
    """
    comparisons = tuple(compare(baseline, candidate, rule) for candidate in candidates)
    accepted = sorted((c for c in comparisons if c.accepted), key=lambda c: c.order)
    if accepted:
        return Decision(accepted[0].change, f"{accepted[0].change}: {accepted[0].reason}", comparisons)
    return Decision(None, "no candidate is worth its cost" if candidates else "there is no candidate left", comparisons)


def compare(baseline: Candidate, candidate: Candidate, rule: Rule) -> Comparison:
    """One candidate against the baseline under the rule."""
    obstacle = _obstacle(candidate, rule) or _obstacle(baseline, rule, "baseline: ")
    if not obstacle and set(baseline.records) != set(candidate.records):
        obstacle = "trained with other seeds than the baseline"
    if obstacle:
        return Comparison(candidate.change, False, obstacle)
    gains = paired_gains(baseline, candidate, rule)
    gain = statistics.fmean(gains.values())
    dearer = _relative(_mean(baseline, rule.cost), _mean(candidate, rule.cost))
    kind = _kind(gain, dearer)
    spread = statistics.stdev(gains.values()) if len(gains) > 1 else None
    noise = max(rule.min_gain, rule.noise_factor * (spread or 0.0) / math.sqrt(len(gains)))
    accepted, reason = _judge(kind, gain, noise, dearer, rule)
    return Comparison(candidate.change, accepted, reason, kind, gain, spread, noise, dearer, len(gains))


def paired_gains(baseline: Candidate, candidate: Candidate, rule: Rule) -> dict[int, float]:
    """Seed -> what the candidate gains over the baseline with that seed. Both must have a value for every seed."""
    sign = -1 if rule.higher else 1
    return {
        seed: sign * (_value(baseline, seed, rule.quality) - _value(candidate, seed, rule.quality))
        for seed in candidate.records
    }


def figure(record: RunRecord, name: str) -> float | None:
    """What a record has of a name: one of its fields, or ``scores.<task>.<metric>``."""
    if name.startswith(PREFIX):
        return record.scores.get(name.removeprefix(PREFIX))
    return getattr(record, name)


def _judge(kind: str, gain: float, noise: float, dearer: float, rule: Rule) -> tuple[bool, str]:
    figures = f"{gain:+.4f} {rule.unit} at {dearer:+.1%} {rule.cost}"
    if 0 < gain < noise and dearer >= 0:
        return False, f"no progress ({figures}): a gain below {noise:.4f} could be chance"
    if kind == "better and not dearer":
        return True, f"{kind} ({figures})"
    if kind not in _RANK:
        return False, f"{kind} ({figures})"
    rate = gain / dearer  # both have the same sign
    if kind == "better and dearer":
        accepted, limit, word = rate >= rule.min_gain_per_cost, rule.min_gain_per_cost, "cost"
    else:
        accepted, limit, word = rate <= rule.max_loss_per_saving, rule.max_loss_per_saving, "saving"
    return accepted, f"{kind} ({figures}): {rate:.4g} {rule.unit} per {word}, the limit is {limit:g}"


def _kind(gain: float, dearer: float) -> str:
    if gain >= 0 and dearer <= 0 and (gain, dearer) != (0, 0):
        return "better and not dearer"
    if gain > 0 and dearer > 0:
        return "better and dearer"
    if gain < 0 and dearer < 0:
        return "worse and cheaper"
    return "no difference" if gain == dearer == 0 else "not better, not cheaper"


def _obstacle(candidate: Candidate, rule: Rule, whose: str = "") -> str:
    """Why a candidate cannot be compared, or nothing."""
    if candidate.invalid:
        return f"{whose}invalid: {candidate.invalid}"
    if not candidate.records:
        return f"{whose}not trained"
    for seed, record in sorted(candidate.records.items()):
        if record is None:
            return f"{whose}seed {seed} has no result yet"
        if record.status != "completed":
            return f"{whose}seed {seed} {record.status}" + (f" ({record.reason})" if record.reason else "")
        for name in (rule.quality, rule.cost):
            value = figure(record, name)
            if value is None or not math.isfinite(value):
                return f"{whose}seed {seed} has no {name}"
    return ""


def _relative(baseline: float, candidate: float) -> float:
    """Candidate cost over baseline cost, minus one; from nothing to something is infinitely dearer."""
    if baseline == candidate:
        return 0.0
    return candidate / baseline - 1 if baseline else math.inf


def _mean(candidate: Candidate, name: str) -> float:
    return statistics.fmean(_value(candidate, seed, name) for seed in candidate.records)


def _value(candidate: Candidate, seed: int, name: str) -> float:
    record = candidate.records[seed]
    value = None if record is None else figure(record, name)
    assert value is not None  # compare has asked for obstacles before
    return value
