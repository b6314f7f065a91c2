"""What scores are called: ``<task>.<metric>``; ``<task>.<metric>@<filter>`` where the harness filters answers in an own
way, ``..._stderr`` for the standard error of one, ``scores.`` in front where other figures stand beside them."""

from __future__ import annotations

from collections.abc import Mapping

PREFIX = "scores."
STDERR = "_stderr"

HIGHER = (
    "acc", "acc_norm", "acc_bytes", "acc_mutual_info", "exact_match", "f1", "mcc", "bleu", "chrf", "rouge1", "rouge2",
    "rougeL", "rougeLsum", "em", "likelihood_diff", "anls", "pass@1",
)  # fmt: skip
LOWER = ("perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte", "ter", "brier_score")
"""Metrics of which everybody knows which way is better."""


def kept(scores: Mapping[str, float]) -> dict[str, float]:
    """The scores that a record keeps: all but the standard errors."""
    return {name: value for name, value in scores.items() if not name.endswith(STDERR)}


def metric_of(score: str) -> str:
    """``acc`` of ``arc_easy.acc@strict``."""
    return score.rpartition(".")[2].partition("@")[0]


def higher_is_better(score: str) -> bool | None:
    """Whether more of a score is better; None for a metric that is not known here."""
    metric = metric_of(score)
    return True if metric in HIGHER else False if metric in LOWER else None
