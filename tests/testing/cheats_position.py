"""Positions that cheat: see :mod:`cheats`."""

from __future__ import annotations

import torch

from minigpt.components.attention.causal import CausalAttention
from minigpt.components.position.cope import ContextualPosition
from minigpt.components.position.learned import LearnedPosition
from minigpt.components.position.rope import RotaryPosition
from minigpt.components.position.t5_relative import T5RelativePosition
from minigpt.registry import register
from minigpt.schema import options


@register("position", "counts_from_each_call")
class CountsFromEachCall(LearnedPosition):
    """The first token of every chunk stands at 0."""

    caught_by = "cached"

    def embed(self, call):
        return self.weight[: call.span.length]


@register("position", "counts_padding")
class CountsPadding(LearnedPosition):
    """Positions start at the left edge, whatever is padding."""

    caught_by = "padding"

    def embed(self, call):
        return self.weight[call.span.index]


@register("position", "idle_scaling")
class IdleScaling(RotaryPosition):
    """Takes a scaling, and turns by the angles it would have without."""

    caught_by = "options"
    cases = ({"scaling": "linear", "factor": 4.0},)

    @options
    class Config(RotaryPosition.Config):
        pass

    def frequencies(self):
        return self.theta ** -(torch.arange(0, self.turned, 2, dtype=torch.float64) / self.turned)


@register("position", "counts_all")
class CountsAll(ContextualPosition):
    """Counts a key of the future as half a one, as a mask that comes too late lets it."""

    caught_by = "cached"
    cases = ()

    def score_bias(self, q, query_position, key_position, scores=None):
        return super().score_bias(q, query_position, key_position, scores.masked_fill(scores.isinf(), 0.0))


@register("position", "idle_bias")
class IdleBias(T5RelativePosition):
    """Learns a table that no attention adds."""

    caught_by = "gradients"
    cases = ()

    def score_bias(self, q, query_position, key_position, scores=None):
        return 0 * super().score_bias(q, query_position, key_position, scores)


@register("attention", "drops_the_bias")
class DropsTheBias(CausalAttention):
    """Says that it adds a position's bias to its scores, and does not."""

    caught_by = "gradients"
    cases = ({"with": {"position": "t5_relative"}},)

    @options
    class Config:
        pass

    def __init__(self, config, ctx):
        super().__init__(CausalAttention.Config(), ctx)

    @property
    def biased(self):
        return False
