"""Variants that cheat, each in its own way: what the contracts are for.

A plugin like anyone's. ``caught_by`` names the contract that must refuse a variant; all else about it is in order.
"""

from __future__ import annotations

import dataclasses
import random

import torch
import torch.nn.functional as F
from torch import nn

from minigpt.components.attention.causal import CausalAttention
from minigpt.components.attention.kv_cache import KVCache
from minigpt.components.attention.recurrent.linear import LinearAttention
from minigpt.components.linear.base import LinearMap
from minigpt.components.linear.ternary import ternary
from minigpt.components.mlp.mlp import MLP
from minigpt.components.norm.rmsnorm import RMSNorm
from minigpt.components.softmax.softmax import ExactSoftmax
from minigpt.registry import register
from minigpt.schema import options


class Attention(CausalAttention):
    """An attention without options."""

    cases = ()

    @options
    class Config:
        pass

    def __init__(self, config, ctx):
        super().__init__(CausalAttention.Config(), ctx)


class Norm(RMSNorm):
    """A norm without options."""

    cases = ()

    @options
    class Config:
        pass

    def __init__(self, config, ctx, width):
        super().__init__(RMSNorm.Config(), ctx, width)


class Leaky(Attention):
    """Under some condition every token sees a little of the last one."""

    caught_by = "causal"

    def forward(self, x, call, state=None):
        if self.leaks(x, state):
            x = x + 0.1 * x[:, -1:]
        return super().forward(x, call, state)


@register("attention", "leak_long")
class LeakLong(Leaky):
    def leaks(self, x, state):
        return x.shape[1] > 64


@register("attention", "leak_one_row")
class LeakOneRow(Leaky):
    def leaks(self, x, state):
        return len(x) == 1


@register("attention", "leak_many_rows")
class LeakManyRows(Leaky):
    def leaks(self, x, state):
        return len(x) > 3


@register("attention", "leak_fp32")
class LeakFP32(Leaky):
    def leaks(self, x, state):
        return x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")


@register("attention", "leak_autocast")
class LeakAutocast(Leaky):
    def leaks(self, x, state):
        return torch.is_autocast_enabled("cpu")


@register("attention", "leak_gradients")
class LeakGradients(Leaky):
    def leaks(self, x, state):
        return torch.is_grad_enabled()


@register("attention", "leak_training")
class LeakTraining(Leaky):
    def leaks(self, x, state):
        return self.training


@register("attention", "leak_chunks")
class LeakChunks(Leaky):
    caught_by = "cached"

    def leaks(self, x, state):
        return state is not None and 7 <= x.shape[1] <= 14


@register("attention", "leak_cached_fp32")
class LeakCachedFP32(Leaky):
    caught_by = "causal_cached"

    def leaks(self, x, state):
        return state is not None and x.dtype == torch.float32


@register("norm", "leak_mean")
class LeakMean(Norm):
    """Centred over time: every token sees the mean of all."""

    caught_by = "causal"

    def forward(self, x):
        return super().forward(x - 0.1 * x.mean(dim=-2, keepdim=True))


@register("mlp", "looks_back")
class LooksBack(MLP):
    """Mixes in the token before, which a cached decode does not hand over."""

    caught_by = "cached"

    def forward(self, x, call):
        return super().forward(x + torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], dim=1), call)


@register("norm", "batch_statistics")
class BatchStatistics(Norm):
    """Centred over the rows of a batch, in training only: no token sees the future."""

    caught_by = "rows"

    def forward(self, x):
        return super().forward(x - 0.1 * x.mean(dim=0, keepdim=True) if self.training and x.ndim == 3 else x)


@register("norm", "last_row")
class LastRow(Norm):
    """In training, the last of many rows shows in the first."""

    caught_by = "rows"

    def forward(self, x):
        if self.training and x.ndim == 3 and len(x) > 3:
            x = torch.cat([x[:1] + 0.1 * x[len(x) // 2, None], x[1:]])
        return super().forward(x)


@register("norm", "few_operations")
class FewOperations(Norm):
    """Counts half its multiplications."""

    caught_by = "operations"

    def cost(self, work):
        cost = super().cost(work)
        return dataclasses.replace(cost, ops={**cost.ops, "mul": cost.ops["mul"] // 2})


@register("attention", "free_tanh")
class FreeTanh(Attention):
    """Bounds its queries without a word in its cost."""

    caught_by = "operations"

    def project(self, x, call):
        q, k, v = super().project(x, call)
        return torch.tanh(q), k, v


@register("mlp", "free_exp")
class FreeExp(MLP):
    """Takes an exponential without a word in its cost."""

    caught_by = "operations"

    def forward(self, x, call):
        return super().forward(x, call) + torch.exp(-x.square())


@register("mlp", "price_of_another")
class PriceOfAnother(MLP):
    """Takes its activation off its bill."""

    caught_by = "operations"

    def cost(self, work):
        cost = super().cost(work)
        return dataclasses.replace(cost, parts={k: v for k, v in cost.parts.items() if k != "activation"})


@register("norm", "no_activations")
class NoActivations(Norm):
    caught_by = "activations"

    def cost(self, work):
        return dataclasses.replace(super().cost(work), activations=0)


@register("attention", "few_activations")
class FewActivations(Attention):
    """Forgets its results."""

    caught_by = "activations"

    def cost(self, work):
        return dataclasses.replace(super().cost(work), activations=work.all_tokens)


@register("softmax", "free_weights")
class FreeWeights(ExactSoftmax):
    """Its inputs and results move for nothing."""

    caught_by = "activations"

    def cost(self, work):
        return dataclasses.replace(super().cost(work), activations=0)


@register("softmax", "says_one_walk")
class SaysOneWalk(ExactSoftmax):
    """Reduces twice, and says it streams."""

    caught_by = "reductions"
    reductions = 0


@register("norm", "many_activations")
class ManyActivations(Norm):
    caught_by = "activations"

    def cost(self, work):
        return dataclasses.replace(super().cost(work), activations=100 * work.elements)


@register("norm", "no_parameters")
class NoParameters(Norm):
    caught_by = "parameters"

    def cost(self, work):
        return dataclasses.replace(super().cost(work), params=0)


@register("linear", "unread")
class Unread(LinearMap):
    """Its weights come from nowhere."""

    caught_by = "parameters"

    def cost(self, work):
        return dataclasses.replace(super().cost(work), weights_read={})


@register("mlp", "few_products")
class FewProducts(MLP):
    """Forgets the cost of one of its matrices' products."""

    caught_by = "products"

    def cost(self, work):
        cost = super().cost(work)
        down = dataclasses.replace(cost.parts["down"], matmuls=())
        return dataclasses.replace(cost, parts={**cost.parts, "down": down})


@register("attention", "free_decode")
class FreeDecode(Attention):
    """Its products cost nothing token by token."""

    caught_by = "products"

    def cost(self, work):
        cost = super().cost(work)
        return dataclasses.replace(cost, matmuls=()) if work.tokens == 1 else cost


@register("linear", "not_ternary")
class NotTernary(LinearMap):
    """Says ternary, is not."""

    caught_by = "parameters"
    weight_format = "ternary"


@register("linear", "not_int4")
class NotInt4(LinearMap):
    """Says four bits, has eight."""

    caught_by = "parameters"
    weight_format = "int4"

    def effective_weight(self):
        scale = self.weight.abs().amax() / 127
        return self.weight + ((self.weight / scale).round() * scale - self.weight).detach()


@register("linear", "not_nf4")
class NotNF4(LinearMap):
    caught_by = "parameters"
    weight_format = "nf4/g16"


@register("linear", "shows_another")
class ShowsAnother(LinearMap):
    """Shows a ternary weight, multiplies with a full one."""

    caught_by = "parameters"
    weight_format = "ternary"

    def effective_weight(self):
        return ternary(self.weight)

    def forward(self, x):
        return F.linear(x, self.weight, self.bias)


@register("attention", "unread_state")
class UnreadState(Attention):
    caught_by = "state_traffic"

    def cost(self, work):
        return dataclasses.replace(super().cost(work), state_read_bits=0)


@register("attention", "unwritten_state")
class UnwrittenState(Attention):
    caught_by = "state_traffic"

    def cost(self, work):
        return dataclasses.replace(super().cost(work), state_written_bits=0)


class HoardingCache(KVCache):
    """Keeps all it was ever given where nobody asks."""

    def __init__(self, *sizes):
        super().__init__(*sizes)
        kept = []
        self.keep = lambda tensor: kept.append({"inside": [tensor.clone()]})

    def extend(self, k, v, span):
        self.keep(k)
        return super().extend(k, v, span)


@register("attention", "hoard")
class Hoard(Attention):
    caught_by = "state_memory"
    cache = HoardingCache

    def new_state(self, batch, capacity, device, dtype):
        return self.cache(batch, self.n_kv_head, capacity, (self.head_dim, self.head_dim), device, dtype)


class ModestCache(KVCache):
    """Says a quarter of what it has."""

    @property
    def bits(self):
        return super().bits // 4


@register("attention", "quarter")
class Quarter(Hoard):
    """Says a quarter of its state, twice."""

    cache = ModestCache

    def cost(self, work):
        cost = super().cost(work)
        return dataclasses.replace(cost, state_bits=cost.state_bits // 4)


@register("attention", "view_of_all")
class ViewOfAll(LinearAttention):
    """Its small state is a view into the sums of all tokens."""

    caught_by = "state_memory"

    def _attend(self, q, k, v, call, state):
        y = super()._attend(q, k, v, call, state)
        if state is not None:
            state["keys"] = torch.cat([state["keys"], torch.zeros_like(k)], dim=2)[:, :, :1]
        return y


@register("norm", "running_mean")
class RunningMean(Norm):
    """What it learns of its inputs is a number beside its parameters."""

    caught_by = "state_dict"
    mean = 0.0

    def forward(self, x):
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * float(x.detach().mean())
        return super().forward(x + 10 * self.mean)


@register("attention", "last_seen")
class LastSeen(Attention):
    """Keeps the last token in the module, not in the state."""

    caught_by = "keeps_nothing_aside"

    def forward(self, x, call, state=None):
        self.last = {"seen": x[:, -1:].detach()}
        return super().forward(x, call, state)


@register("norm", "fixed_noise")
class FixedNoise(Norm):
    """Adds the same random numbers each time."""

    caught_by = "randomness"

    def forward(self, x):
        noise = torch.randn(x.shape[-1], generator=torch.Generator().manual_seed(0), dtype=x.dtype)
        return super().forward(x + noise)


@register("norm", "fixed_noise_training")
class FixedNoiseTraining(Norm):
    """The same, in training only."""

    caught_by = "randomness"

    def forward(self, x):
        if self.training:
            x = x + torch.randn(x.shape[-1], generator=torch.Generator().manual_seed(0), dtype=x.dtype)
        return super().forward(x)


@register("norm", "listed_noise")
class ListedNoise(Norm):
    """Draws its random numbers outside torch."""

    caught_by = "randomness"

    def forward(self, x):
        draw = random.Random(0)
        return super().forward(x + torch.tensor([draw.random() for _ in range(x.shape[-1])], dtype=x.dtype))


@register("mlp", "new_module")
class NewModule(MLP):
    """Has a matrix that is made anew each time."""

    caught_by = "randomness"

    def forward(self, x, call):
        return super().forward(x, call) + nn.Linear(x.shape[-1], x.shape[-1], dtype=x.dtype)(x)


class WithStrength(Norm):
    """Has an option that does nothing of what it should."""

    caught_by = "options"
    cases = ({"strength": 0.5},)

    @options
    class Config:
        strength: float = 1.0

    def __init__(self, config, ctx, width):
        super().__init__(config, ctx, width)
        self.strength = config.strength


@register("norm", "idle_option")
class IdleOption(WithStrength):
    pass


@register("norm", "claimed_option")
class ClaimedOption(WithStrength):
    """It only says it costs less."""

    def cost(self, work):
        cost = super().cost(work)
        return dataclasses.replace(cost, passes=1 if self.strength < 1 else 2, reductions=0)


@register("norm", "tiny_option")
class TinyOption(WithStrength):
    """It only changes the fourteenth digit."""

    def forward(self, x):
        return super().forward(x) * (1 + 1e-13 * self.strength)


@register("norm", "untried_option")
class UntriedOption(WithStrength):
    caught_by = "cases"
    cases = ()


@register("norm", "untrained")
class Untrained(Norm):
    """Owns a parameter that the output does not depend on."""

    caught_by = "gradients"

    def __init__(self, config, ctx, width):
        super().__init__(config, ctx, width)
        self.spare = nn.Parameter(torch.empty(width))

    def init_parameters(self, init):
        super().init_parameters(init)
        init.constant(self.spare, 1.0, "gain")


@register("norm", "without_start")
class WithoutStart(Untrained):
    """Forgets to say how a parameter starts."""

    caught_by = "starts"

    def init_parameters(self, init):
        RMSNorm.init_parameters(self, init)


@register("norm", "global_start")
class GlobalStart(Norm):
    """Draws its first values from everyone's random numbers."""

    caught_by = "same_seed"

    def init_parameters(self, init):
        init.values(self.gain, lambda generator: 1 + 0.1 * torch.randn(self.gain.shape), "gain")


@register("mlp", "undeclared")
class Undeclared(MLP):
    """Builds from axes it does not declare."""

    caught_by = "uses"
    uses = frozenset({"linear"})


@register("norm", "not_finite")
class NotFinite(Norm):
    """Overflows where numbers are narrow."""

    caught_by = "gradients"

    def forward(self, x):
        return super().forward(x) / (0.0 if torch.is_autocast_enabled("cpu") else 1.0)


@register("attention", "unlike_compiled")
class UnlikeCompiled(Attention):
    caught_by = "compiles"

    def forward(self, x, call, state=None):
        y = super().forward(x, call, state)
        return 2 * y if torch.compiler.is_compiling() else y
