"""Softmaxes that cheat: see :mod:`cheats`."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from minigpt.components.softmax.consmax import ConSmax
from minigpt.components.softmax.gelumax import GeluMax
from minigpt.components.softmax.softmax import ExactSoftmax
from minigpt.components.softmax.softshrinkmax import SoftshrinkMax
from minigpt.components.softmax.squareplusmax import SquareplusMax
from minigpt.components.softmax.strongermax import StrongerMax
from minigpt.registry import register
from minigpt.schema import options


def at_defaults(base):
    """The class without options."""

    class Plain(base):
        cases = ()
        changes = {}

        @options
        class Config:
            pass

        def __init__(self, config, ctx):
            super().__init__(base.Config(), ctx)

    return Plain


@register("softmax", "squareplus_of_minus_infinity")
class SquareplusOfMinusInfinity(at_defaults(SquareplusMax)):
    """-inf + inf where a key is masked."""

    caught_by = "gradients"

    def function(self, scores):
        return (scores + (scores.square() + 4 * math.log(2) ** 2).sqrt()) / 2


@register("softmax", "softshrink_lets_through")
class SoftshrinkLetsThrough(at_defaults(SoftshrinkMax)):
    """A masked score, -inf, is a weight."""

    caught_by = "gradients"

    def function(self, scores):
        return F.softshrink(scores)


@register("softmax", "gelu_of_minus_infinity")
class GeluOfMinusInfinity(at_defaults(GeluMax)):
    """-inf times 0."""

    caught_by = "gradients"

    def function(self, scores):
        return F.gelu(scores)


@register("softmax", "temperature_of_minus_infinity")
class TemperatureOfMinusInfinity(StrongerMax):
    """The learned temperature divides what is masked: its own gradient is NaN."""

    caught_by = "gradients"
    cases = ()
    changes = {}

    @options
    class Config:
        pass

    def __init__(self, config, ctx):
        super().__init__(StrongerMax.Config(learn_temperature=True), ctx)

    def forward(self, scores):
        return torch.softmax(scores / self.log_temperature.exp(), dim=-1)


@register("softmax", "row_length")
class RowLength(at_defaults(ExactSoftmax)):
    """Divides by the length of the tensor's rows, masked keys included, in place of the keys that are visible."""

    caught_by = "cached"
    fused = False
    normalised = False
    reductions = 0

    def forward(self, scores):
        return scores.relu() / scores.shape[-1]


@register("softmax", "idle_base")
class IdleBase(ConSmax):
    """Takes a base and goes on with e."""

    caught_by = "options"
    cases = [{"base": 2.0}]

    @options
    class Config:
        base: float = math.e

    def __init__(self, config, ctx):
        super().__init__(ConSmax.Config(), ctx)


@register("softmax", "clamp_in_place")
class ClampInPlace(at_defaults(ConSmax)):
    """Overwrites the scores that a gradient needs."""

    caught_by = "gradients"

    def forward(self, scores):
        weights = torch.exp(scores - self.beta)
        weights.clamp_(max=10.0)
        return weights / self.log_gamma.exp()


@register("softmax", "scale_of_the_call")
class ScaleOfTheCall(at_defaults(ConSmax)):
    """Quantises weights with one scale for all rows: the largest weight of a later token changes an earlier one."""

    caught_by = "causal"

    def forward(self, scores):
        weights = super().forward(scores)
        step = weights.detach().amax() / 7
        return weights + ((weights / step).round() * step - weights).detach()
