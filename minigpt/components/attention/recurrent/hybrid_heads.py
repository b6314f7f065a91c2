"""Hybrid heads: some heads attend, the others are state spaces, side by side on the same input."""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated

import torch
from torch import Tensor

from minigpt.components.attention.kv_cache import KVCache
from minigpt.components.attention.recurrent.scan import RecurrentState
from minigpt.components.attention.recurrent.state_space import StateSpaceHeads
from minigpt.components.attention.scores import SoftmaxAttention, split_heads
from minigpt.components.base import BuildContext
from minigpt.components.call import Call
from minigpt.components.quantiser.base import quantiser_costs
from minigpt.cost import Cost, Work
from minigpt.errors import UserError
from minigpt.registry import register
from minigpt.schema import PositiveInt, Range, options


class HybridState:
    """The keys and values of the heads that attend, and the sums of the others."""

    def __init__(self, cache: KVCache, sums: RecurrentState):
        self.cache, self.sums = cache, sums

    @property
    def bits(self) -> int:
        return self.cache.bits + self.sums.bits

    def select(self, rows: Tensor) -> HybridState:
        """A copy with these rows, in this order; a row may come more than once."""
        return HybridState(self.cache.select(rows), self.sums.select(rows))


@register("attention", "hybrid_heads")
class HybridHeads(SoftmaxAttention):
    """y = W_o [norm(softmax(q k^T / sqrt(d)) v), ssm(x)]: ``split`` of the heads attend, the rest are state spaces.

    Dong et al. 2024 (Hymba), arXiv:2411.13676: both see the same input at once, each is normed (a gain is its weight
    beside the other), and one map joins them. split: share of the heads that attend, rounded to whole heads, at least
    one of each kind. window: keys that these see, itself included; None is all.

    The other heads are those of :class:`~minigpt.components.attention.recurrent.ssm.StateSpace`, one head_dim wide
    each, with ``state_dim``, ``conv`` and ``chunk`` of it, and know no position but the order of tokens.

    x (B, T, C) -> (B, T, H_a d) of attention, (B, T, H_s d) of state spaces, H_a + H_s = H -> (B, T, C). Learns q, k,
    v: (H_a d, C) and their norm's gain, o: (C, H d), and all that a state space of H_s heads learns, N = ``state_dim``:
    project: (2 H_s d + 2 N + H_s, C), conv: (H_s d + 2 N, conv) and its bias, rates, steps and skips: (H_s,), its
    norm's gain.
    """

    uses = SoftmaxAttention.uses | {"activation", "norm"}

    @options
    class Config:
        split: Annotated[float, Range(gt=0, lt=1)] = 0.5
        window: PositiveInt | None = None
        state_dim: PositiveInt = 64
        conv: PositiveInt = 4
        chunk: PositiveInt = 64

    cases = [
        {"split": 0.25, "window": 5, "state_dim": 6},
        {"conv": 2, "chunk": 5},
    ]
    changes = {"chunk": "work"}

    def __init__(self, config: Config, ctx: BuildContext):
        super().__init__()
        if ctx.n_head < 2:
            raise UserError(
                "attention=hybrid_heads needs a head of each kind, model.n_head=1 has one. Take two or more heads, or "
                "attention=causal|ssm"
            )
        if config.window is not None and config.window > ctx.block_size:
            raise UserError(
                f"attention.window: {config.window} is more than model.block_size={ctx.block_size} and would do "
                f"nothing. Take at most {ctx.block_size}, or null"
            )
        attending = min(max(round(config.split * ctx.n_head), 1), ctx.n_head - 1)
        self.d_model, self.head_dim, self.window = ctx.d_model, ctx.head_dim, config.window
        width, rest = attending * ctx.head_dim, (ctx.n_head - attending) * ctx.head_dim
        self.q = ctx.linear(ctx.d_model, width, site="q")
        self.k = ctx.linear(ctx.d_model, width, site="k")
        self.v = ctx.linear(ctx.d_model, width, site="v")
        self.norm = ctx.norm(width, site="mix")
        self.ssm = StateSpaceHeads(ctx, rest, ctx.head_dim, config.state_dim, config.conv, config.chunk)
        self.o = ctx.linear(width + rest, ctx.d_model, site="o", role="residual_out")
        rounds = ("attention_input", "q", "k", "v", "attention_output")
        self.build_scores(dataclasses.replace(ctx, n_head=attending), scale=1 / math.sqrt(self.head_dim), rounds=rounds)

    @property
    def path(self) -> str:
        return f"{super().path}; {self.ssm.scan.path}"

    def new_state(self, batch: int, capacity: int, device: torch.device, dtype: torch.dtype) -> HybridState:
        capacity = capacity if self.window is None else min(capacity, self.window)
        cache = KVCache(batch, self.n_head, capacity, (self.head_dim, self.head_dim), device, dtype)
        return HybridState(cache, self.ssm.new_state(batch, device, dtype))

    def forward(self, x: Tensor, call: Call, state: HybridState | None = None) -> Tensor:
        x = self.quantise["attention_input"](x)
        found = self.norm(self._attended(x, call, None if state is None else state.cache))  # (B, T, H_a d)
        passed = self.ssm(x, call, None if state is None else state.sums)  # (B, T, H_s d)
        return self.quantise["attention_output"](self.o(torch.cat([found, passed.to(found.dtype)], dim=-1)))

    def _attended(self, x: Tensor, call: Call, cache: KVCache | None) -> Tensor:
        q, k, v = (split_heads(linear(x), self.head_dim) for linear in (self.q, self.k, self.v))  # (B, H_a, T, d)
        q, k = self.turn(q, k, call)
        q, k, v = (self.quantise[site](each) for site, each in (("q", q), ("k", k), ("v", v)))
        k, v, key_index = (k, v, None) if cache is None else cache.extend(k, v, call.span)
        return self.attend(q, k, v, call.span, key_index).transpose(1, 2).flatten(2)

    def hardware_form(self, work: Work) -> dict[str, int]:
        """Torch scales the queries in every call; the scale is folded into their matrix."""
        return self.scaling(work, self.head_dim)

    def cost(self, work: Work) -> Cost:
        tokens, width = work.all_tokens, self.n_head * self.head_dim
        rounded = work.fed(self.quantise["attention_input"].bits)
        parts = {name: getattr(self, name).cost(rounded) for name in ("q", "k", "v", "ssm")}
        parts |= {"o": self.o.cost(work), "norm": self.norm.cost(work.over(tokens, tokens * width))}
        outside, inside = (tokens, tokens * self.d_model), (tokens * self.n_head, tokens * width)
        sites = {"attention_input": outside, "q": inside, "k": inside, "v": inside, "attention_output": outside}
        return dataclasses.replace(
            self.cache(work, 2 * width),
            params=self.own_params(),
            weights_read={"native": self.own_params()},
            matmuls=self.products(work, self.head_dim, self.head_dim),
            ops=self.score_ops(work),
            activations=4 * tokens * width + 2 * tokens * self.ssm.inner,
            parts=parts | self.score_parts(work, 2 * self.n_head) | quantiser_costs(self.quantise, work, sites),
        )
