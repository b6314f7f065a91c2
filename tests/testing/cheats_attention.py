"""Attentions that cheat as published ones do; see cheats.py."""

from __future__ import annotations

import torch
from cheats import Attention
from torch import nn

from minigpt.components.attention.asic import AsicAttention
from minigpt.components.attention.kv_cache import KVCache
from minigpt.components.attention.mla import LatentAttention
from minigpt.components.attention.scores import split_heads
from minigpt.registry import register
from minigpt.schema import PositiveInt, options


@register("attention", "gate_of_noise")
class GateOfNoise(Attention):
    """Its gate is made in every call: no optimizer ever sees it."""

    caught_by = "randomness"

    def forward(self, x, call, state=None):
        gate = nn.Linear(x.shape[-1], x.shape[-1], dtype=x.dtype, device=x.device)
        return super().forward(x, call, state) * gate(x).sigmoid()


class Latent(LatentAttention):
    """A latent attention without options."""

    cases = ()

    @options
    class Config:
        pass

    def __init__(self, config, ctx):
        super().__init__(LatentAttention.Config(), ctx)


@register("attention", "expanded_cache")
class ExpandedCache(Latent):
    """Says it keeps latents, keeps the keys and values of all heads."""

    caught_by = "state_memory"

    def new_state(self, batch, capacity, device, dtype):
        return KVCache(batch, self.n_head, capacity, (self.query_dim, self.head_dim), device, dtype)

    def forward(self, x, call, state=None):
        if state is None:
            return super().forward(x, call)
        content, turned = self.queries(x).split([self.head_dim, self.rope_dim], dim=-1)
        latent = self.kv_norm(self.kv_down(x))
        turned, shared = self.turn(turned, self.k_rope(x)[:, None], call)
        k, v = (split_heads(up(latent), self.head_dim) for up in (self.k_up, self.v_up))
        k = torch.cat([k, shared.expand(-1, self.n_head, -1, -1)], dim=-1)
        k, v, key_index = state.extend(k, v, call.span)
        y = self.attend(torch.cat([content, turned], dim=-1), k, v, call.span, key_index)
        return self.o(y.transpose(1, 2).flatten(2))


@register("attention", "idle_latent")
class IdleLatent(Latent):
    """Takes the width of a latent of its queries, and has none."""

    caught_by = "options"
    cases = ({"q_latent_dim": 12},)

    @options
    class Config:
        q_latent_dim: PositiveInt | None = None


@register("attention", "rounded_across_time")
class RoundedAcrossTime(AsicAttention):
    """One scale for the exponents of all rows: what comes later decides how the earlier ones are rounded."""

    caught_by = "causal"
    cases = ()

    @options
    class Config:
        pass

    def __init__(self, config, ctx):
        super().__init__(AsicAttention.Config(numerator_bits=4), ctx)

    def weights(self, scores):
        exponents = torch.exp(scores - scores.detach().amax())
        unit = exponents.detach().amax() / 15
        rounded = exponents + ((exponents / unit).round() * unit - exponents).detach()
        return rounded / rounded.sum(dim=-1, keepdim=True).clamp_min(unit)
