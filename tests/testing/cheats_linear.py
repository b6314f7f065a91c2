"""Linear maps and quantisers that cheat. A plugin like anyone's; see cheats.py."""

from __future__ import annotations

import dataclasses

import torch
from torch import nn

from minigpt.components.initialiser import Initialiser
from minigpt.components.linear.base import BitLinear, LinearMap
from minigpt.components.linear.ternary import ternary
from minigpt.components.quantiser.int import IntQuantiser
from minigpt.components.rounding import straight_through, symmetric
from minigpt.cost import Cost
from minigpt.registry import register
from minigpt.schema import options


class Whole(IntQuantiser):
    """A quantiser without options."""

    cases = ()

    @options
    class Config:
        pass

    def __init__(self, config, ctx):
        super().__init__(IntQuantiser.Config(bits=4), ctx)


@register("quantiser", "per_tensor")
class PerTensor(Whole):
    """One scale for all tokens: a large number in the last one moves the codes of all before."""

    caught_by = "causal"

    def forward(self, x):
        return straight_through(x, symmetric(x.detach().flatten(), self.bits).view_as(x))


@register("quantiser", "per_channel")
class PerChannel(Whole):
    """A scale per channel over the tokens of a call, as a weight has one."""

    caught_by = "causal"

    def forward(self, x):
        return straight_through(x, symmetric(x.detach().transpose(-2, -1), self.bits).transpose(-2, -1))


@register("quantiser", "per_chunk")
class PerChunk(Whole):
    """One scale for what a call brings, in evaluation: a cached decode rounds otherwise than the full forward."""

    caught_by = "cached"

    def forward(self, x):
        rows = x.detach().flatten() if not self.training else x.detach()
        return straight_through(x, symmetric(rows, self.bits).view_as(x))


@register("quantiser", "without_gradient")
class WithoutGradient(Whole):
    """Rounds, and lets the gradient of rounding through: none."""

    caught_by = "gradients"

    def forward(self, x):
        return symmetric(x, self.bits).detach()


@register("quantiser", "free_rounding")
class FreeRounding(Whole):
    """Rounds for nothing."""

    caught_by = "operations"

    def cost(self, work):
        return Cost(activations=2 * work.elements, reductions=1, passes=2)


@register("linear", "ternary_per_tensor")
class TernaryPerTensor(BitLinear):
    """BitNet's activations with one scale for all tokens of a batch, as its paper trains."""

    caught_by = "causal"
    weight_format = "ternary"

    def __init__(self, config, ctx, in_features, out_features, role, bias):
        LinearMap.__init__(self, config, ctx, in_features, out_features, role, bias)
        self.activation_bits = 4

    def quantised(self, weight):
        return ternary(weight)

    def forward(self, x):
        x = straight_through(x, symmetric(x.detach().flatten(), 4).view_as(x))
        return LinearMap.forward(self, x)


@register("linear", "deaf_bits")
class DeafBits(LinearMap):
    """Its learned width is rounded away before the loss could say anything about it."""

    caught_by = "gradients"

    def __init__(self, config, ctx, in_features, out_features, role, bias):
        super().__init__(config, ctx, in_features, out_features, role, bias)
        self.width = nn.Parameter(torch.empty(1))

    def init_parameters(self, init: Initialiser):
        super().init_parameters(init)
        init.constant(self.width, 4.0, "scalar")

    def effective_weight(self):
        steps = torch.exp2(self.width.round() - 1) - 1
        scale = steps / self.weight.detach().abs().amax()
        return straight_through(self.weight, (self.weight * scale).round() / scale)


@register("linear", "one_scale_more")
class OneScaleMore(LinearMap):
    """Says one scale serves the whole matrix, has one for every output."""

    caught_by = "parameters"
    weight_format = "int4"

    def effective_weight(self):
        return straight_through(self.weight, symmetric(self.weight.detach(), 4))


@register("linear", "hidden_zero")
class HiddenZero(LinearMap):
    """Says its codes are symmetric, and needs a zero point."""

    caught_by = "parameters"

    def __init__(self, config, ctx, in_features, out_features, role, bias):
        super().__init__(config, ctx, in_features, out_features, role, bias)
        self.weight_format = f"int3/g{in_features}"

    def effective_weight(self):
        weight = self.weight.detach()
        low, high = weight.amin(1, keepdim=True), weight.amax(1, keepdim=True)
        step = (high - low) / 7
        return straight_through(self.weight, ((weight - low) / step).round() * step + low)


@register("linear", "price_of_a_narrow_map")
class PriceOfANarrowMap(LinearMap):
    """Counts the products of a low rank, has a full one."""

    caught_by = "products"

    def cost(self, work):
        cost = super().cost(work)
        (product,) = cost.matmuls
        return dataclasses.replace(cost, matmuls=(dataclasses.replace(product, k=1),))
