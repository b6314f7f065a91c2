"""Several tasks at once, with weights that may change on the way."""

from __future__ import annotations

import dataclasses
import math
from bisect import bisect_right
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Annotated, Any

import torch
from torch import Tensor

from minigpt import registry
from minigpt.data.batch import Tokens
from minigpt.errors import UserError, did_you_mean, shown
from minigpt.model import Output
from minigpt.registry import register
from minigpt.schema import Choice, options
from minigpt.training.tasks.base import Learned, Task

Weight = float | list[list[float]]


@register("task", "mixture")
class Mixture(Task):
    """loss = sum_i w_i(step) loss_i of the tasks that ``terms`` names.  Caruana 1997, Multitask Learning.

    weights: how much each counts, 1 where nothing is said: a number, or points ``[[step, weight], ...]``, a line from
    each to the next, level before the first and after the last. A term whose weight is 0 at a step is not computed
    there. Each term's loss is logged by its label. ``terms: {plain: {name: next_token}, hard: {name: focal}}``,
    ``weights: {hard: [[0, 0], [200, 1]]}``.
    """

    in_nats = False  # the weights are whatever they are

    @options
    class Config:
        terms: dict[str, Annotated[Any, Choice("task")]] = dataclasses.field(default_factory=dict)
        weights: dict[str, float | list[list[float]]] = dataclasses.field(default_factory=dict)

    _TWO = {"plain": {"name": "next_token"}, "hard": {"name": "focal"}}
    cases = [{"terms": _TWO, "weights": {"hard": 0.5}}, {"terms": _TWO, "weights": {"plain": [[0, 0], [10, 1]]}}]

    def __init__(self, config: Config):
        refuse_weights_of_nothing(config)
        self.terms: dict[str, Task] = {label: registry.build(spec) for label, spec in config.terms.items()}
        self.weights: dict[str, Weight] = dict.fromkeys(self.terms, 1.0)
        self.weights |= config.weights
        for label, term in self.terms.items():
            if type(term).draw is not Task.draw or term.reads is not Tokens:
                raise UserError(f"task.terms.{label}: reads other batches than plain text, so it cannot be mixed")
        self.needs = frozenset().union(*(term.needs for term in self.terms.values()))
        self.checkpoints = {
            f"{label}.{name}": path for label, term in self.terms.items() for name, path in term.checkpoints.items()
        }

    @property
    def models(self) -> Mapping[str, Callable[[Tensor], Output]]:  # type: ignore[override]
        return {f"{label}.{name}": model for label, t in self.terms.items() for name, model in t.models.items()}

    @models.setter
    def models(self, given: Mapping[str, Callable[[Tensor], Output]]) -> None:
        for label, term in self.terms.items():
            term.models = {name: given[f"{label}.{name}"] for name in term.checkpoints}

    def __call__(self, output: Output, batch: Tokens, step: int) -> Learned:
        loss = torch.zeros((), device=output.logits.device)
        figures: dict[str, Tensor] = {}
        for label, term in self.terms.items():
            if weight := weight_at(self.weights[label], step):
                learned = term(output, batch, step)
                loss = loss + weight * learned.loss
                figures |= {label: learned.loss} | {f"{label}.{name}": v for name, v in learned.figures.items()}
        return Learned(loss, figures)


def refuse_weights_of_nothing(config: Mixture.Config) -> None:
    """Raise UserError for a mixture of one, and for weights that are none or do nothing."""
    if len(config.terms) < 2:
        form = "{plain: {name: next_token}, hard: {name: focal}}"
        raise UserError(f"task.terms: expected at least two, such as {form}, got {len(config.terms)}")
    for label, weight in config.weights.items():
        place = f"task.weights.{label}"
        if label not in config.terms:
            terms = f"\n  terms: {', '.join(config.terms)}"
            raise UserError(f"{place}: there is no such term.{did_you_mean(label, config.terms)}{terms}")
        points = weight if isinstance(weight, (list, tuple)) else [[0.0, weight]]
        form = f"{place}: expected a number or points [[step, weight], ...], steps rising and nothing below 0"
        if not points or any(len(point) != 2 or not 0 <= min(point) <= max(point) < math.inf for point in points):
            raise UserError(f"{form}; got {shown(weight, 60)}")
        if any(one[0] >= other[0] for one, other in pairwise(points)):
            raise UserError(f"{form}; got {shown(weight, 60)}")
        if not any(value for _, value in points):
            raise UserError(f"{place}: is 0 all the way, so the term would do nothing. Leave it out")


def weight_at(weight: Weight, step: int) -> float:
    """A weight at a step: itself, or on the line between two points."""
    if not isinstance(weight, (list, tuple)):
        return weight
    steps = [point[0] for point in weight]
    after = bisect_right(steps, step)
    if after in (0, len(weight)):
        return weight[max(after - 1, 0)][1]
    (first, low), (last, high) = weight[after - 1], weight[after]
    return low + (high - low) * (step - first) / (last - first)
