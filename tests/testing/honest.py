"""Variants that are in order and hard to judge: options of every kind, and a decode in a form of its own."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch

from minigpt.components.attention.base import Attention
from minigpt.components.norm.rmsnorm import RMSNorm
from minigpt.cost import Cost, Matmul
from minigpt.registry import register
from minigpt.schema import Range, options


@register("norm", "manifold")
class Manifold(RMSNorm):
    """RMSNorm with options that no blind value fits."""

    cases = [
        {"groups": 4},
        {"gradient": "scaled", "share": 0.25},
        {"first": 0.5},
        {"first": -0.5, "groups": 8, "with": {"position": "nope"}},
        {"label": "loud"},
    ]
    changes = {"gradient": "gradient", "share": "gradient", "first": "start"}

    @options
    class Config:
        groups: Annotated[int, Range(ge=1, le=8)] = 1
        gradient: Literal["plain", "scaled"] = "plain"
        share: Annotated[float, Range(gt=0, lt=0.5)] = 0.125
        first: float = 1.0
        label: str = "quiet"

    def __init__(self, config, ctx, width):
        super().__init__(RMSNorm.Config(), ctx, width)
        self.config = config

    def init_parameters(self, init):
        init.constant(self.gain, self.config.first, "gain")

    def forward(self, x):
        groups = self.config.groups
        normed = torch.rsqrt(x.unflatten(-1, (groups, -1)).square().mean(dim=-1, keepdim=True) + 1e-6)
        y = self.gain * (x.unflatten(-1, (groups, -1)) * normed).flatten(-2)
        if self.config.label == "loud":
            y = 2 * y
        if self.config.gradient == "scaled" and self.training:
            y = y.detach() + self.config.share * (y - y.detach())
        return y

    def cost(self, work):
        n, rows, params = work.elements, work.rows * self.config.groups, self.own_params()
        muls = 3 + (self.config.label == "loud")
        ops = {"add": n, "mul": muls * n, "rsqrt": rows}
        return Cost(params=params, weights_read={"native": params}, ops=ops, activations=2 * n, reductions=1, passes=2)

    def hardware_form(self, work):
        rows = work.rows * self.config.groups
        return {"add": rows, "mul": rows}


class Seen:
    """All inputs so far: (B, capacity, C)."""

    def __init__(self, batch, capacity, width, device, dtype):
        self.x = torch.zeros(batch, capacity, width, device=device, dtype=dtype)

    @property
    def bits(self):
        return 8 * self.x.nbytes


@register("attention", "absorbed")
class Absorbed(Attention):
    """One head on what the model's inputs are, without a map for values: keys are W_k x in a prefill; in a decode step
    the query is multiplied with W_k instead, and what is remembered is x alone, as in latent attention."""

    uses = frozenset({"linear"})
    decode_form = "absorbed"

    def __init__(self, config, ctx):
        super().__init__()
        self.width, self.head_dim = ctx.d_model, ctx.head_dim
        self.q = ctx.linear(ctx.d_model, ctx.head_dim, site="q", bias=False)
        self.k = ctx.linear(ctx.d_model, ctx.head_dim, site="k", bias=False)
        self.o = ctx.linear(ctx.d_model, ctx.d_model, site="o", role="residual_out")

    cases = [{"with": {"position": "nope"}}]

    def new_state(self, batch, capacity, device, dtype):
        return Seen(batch, capacity, self.width, device, dtype)

    def forward(self, x, call, state=None):
        span, seen = call.span, x
        if state is not None:
            state.x[:, span.start : span.start + span.length] = x
            seen = state.x[:, : span.start + span.length].to(x.dtype)
        q = self.q(x)
        if state is not None and span.length == 1:
            scores = (q @ self.k.effective_weight().to(q.dtype)) @ seen.transpose(1, 2)
        else:
            scores = q @ self.k(seen).transpose(1, 2)
        index = torch.arange(seen.shape[1])
        visible = span.visible(index) if span.padding is None else span.visible(index)[:, 0]
        scores = (scores / math.sqrt(self.head_dim)).masked_fill(~visible, -math.inf)
        return self.o(scores.softmax(dim=-1) @ seen)

    def cost(self, work):
        c, d, t = self.width, self.head_dim, work.tokens
        n = work.batch * work.pairs()
        state = work.batch * c * work.cache_bits
        parts = {"q": self.q.cost(work), "o": self.o.cost(work)}
        last = (Matmul(t, work.context, c, work.batch, n * c, weight_format=None),)
        weights, reads = {}, 0
        if t == 1 and work.context > 1:
            first = (
                Matmul(1, d, c, work.batch),
                Matmul(1, c, work.context, work.batch, n * c, weight_format=None),
            )
            weights, reads, params = {"native": c * d}, state * work.context, self.k.own_params()
        else:
            parts["k"] = self.k.cost(work)
            first, params = (Matmul(t, d, work.context, work.batch, n * d, weight_format=None),), 0
        return Cost(
            params=params,
            weights_read=weights,
            matmuls=first + last,
            ops={"max": n, "sub": n, "exp": n, "add": n, "mul": n, "recip": work.all_tokens},
            state_bits=state * work.context,
            state_read_bits=reads,
            state_written_bits=state * t,
            activations=work.all_tokens * (3 * c + 2 * d),
            parts=parts,
        )

    def hardware_form(self, work):
        """Torch scales every score and divides each; in hardware that is one reciprocal per row."""
        return {"mul": work.batch * work.pairs(), "recip": -work.all_tokens}
