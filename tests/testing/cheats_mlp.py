"""MLPs that cheat: experts chosen over time, places given away to others, knots that follow the whole text."""

from __future__ import annotations

import dataclasses

import torch

from minigpt.components.mlp.glu import GLU
from minigpt.components.mlp.kan import KAN
from minigpt.components.mlp.mlp import MLP
from minigpt.components.mlp.moe import MixtureOfExperts
from minigpt.registry import register
from minigpt.schema import options


class Mixture(MixtureOfExperts):
    """A mixture of four experts without options."""

    cases = ()
    chosen = {}

    @options
    class Config:
        pass

    def __init__(self, config, ctx):
        super().__init__(MixtureOfExperts.Config(experts=4, **self.chosen), ctx)


@register("mlp", "experts_choose_tokens")
class ExpertsChooseTokens(Mixture):
    """Every expert takes the tokens it scores highest, over time: later ones push earlier ones out."""

    caught_by = "causal"

    def mixed(self, rows, weights, chosen, call):
        _, scores = self.score(rows)
        best = scores.topk(max(1, len(rows) // 2), dim=0).indices  # of each expert
        taken = torch.zeros_like(scores).scatter(0, best, 1.0)
        return super().mixed(rows, weights * taken.gather(1, chosen), chosen, call)


@register("mlp", "capacity_in_batch_order")
class CapacityInBatchOrder(Mixture):
    """Its experts are full with the rows before: a text loses its places to another one."""

    caught_by = "rows"
    chosen = {"capacity": 0.5}

    def _has_room(self, chosen):
        return super()._has_room(chosen.flatten(0, -2)[None])[0].unflatten(0, chosen.shape[:-1])


@register("mlp", "capacity_by_score")
class CapacityByScore(Mixture):
    """Its experts keep the tokens from the text's end."""

    caught_by = "causal"
    chosen = {"capacity": 0.5}

    def _has_room(self, chosen):
        return super()._has_room(chosen.flip(-2)).flip(-2)


@register("mlp", "capacity_in_decoding")
class CapacityInDecoding(Mixture):
    """Drops tokens outside of training, too, where a chunk is too short to be full."""

    caught_by = "cached"

    def mixed(self, rows, weights, chosen, call):
        every = torch.arange(self.count)
        place = (chosen[..., None] == every).any(dim=-2).view(-1, call.span.length, self.count).cumsum(dim=1)
        room = place.flatten(0, 1).gather(1, chosen) <= (call.span.length + 2) // 3
        return super().mixed(rows, weights * room, chosen, call)


@register("mlp", "noise_in_evaluation")
class NoiseInEvaluation(Mixture):
    """Its router draws whenever it is asked."""

    caught_by = "randomness"
    chosen = {"router": "noisy"}

    def score(self, rows):
        was, self.training = self.training, True
        try:
            return super().score(rows)
        finally:
            self.training = was


@register("mlp", "all_experts_for_free")
class AllExpertsForFree(Mixture):
    """Counts only the experts that one token goes through as its parameters."""

    caught_by = "parameters"

    def cost(self, work):
        cost = super().cost(work)
        one = self.experts[0].cost(work)
        return dataclasses.replace(cost, parts={**cost.parts, "experts.0": one})


@register("mlp", "knots_over_time")
class KnotsOverTime(KAN):
    """Scales by the least and the largest of the whole text."""

    caught_by = "causal"
    cases = ()

    @options
    class Config:
        pass

    def __init__(self, config, ctx):
        super().__init__(KAN.Config(), ctx)

    def edges(self, x, base):
        low, high = x.amin(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)
        return super().edges((x - low) / (high - low).clamp_min(1e-6), base)


@register("mlp", "unused_path")
class UnusedPath(GLU):
    """Builds the gate of a mode that was not chosen."""

    caught_by = "gradients"
    cases = ()

    @options
    class Config:
        pass

    def __init__(self, config, ctx):
        super().__init__(GLU.Config(), ctx)

    def forward(self, x, call):
        return self.down(self.activation(self.up(x)))


@register("mlp", "half_as_wide")
class HalfAsWide(MLP):
    """An option that is read and left at its default."""

    caught_by = "options"
    cases = ({"expansion": 2.0},)

    @options
    class Config:
        expansion: float = 4.0

    def __init__(self, config, ctx):
        super().__init__(MLP.Config(), ctx)
