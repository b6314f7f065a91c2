"""Attention as an edge accelerator computes it: exponents in one pass, the division in a second, both in few bits."""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated

import torch
from torch import Tensor

from minigpt.components.attention.kv_cache import KVCache
from minigpt.components.attention.scores import ROUNDED, SoftmaxAttention, split_heads
from minigpt.components.base import BuildContext
from minigpt.components.call import Call
from minigpt.components.rounding import straight_through
from minigpt.cost import Cost, Work
from minigpt.registry import register
from minigpt.schema import Range, options


@register("attention", "asic")
class AsicAttention(SoftmaxAttention):
    """y = sum_s w_s v_s with w_s = Q(e^(s - m)) / Q'(sum Q(e^(s - m))): ``causal`` with a softmax of its own.

    First pass: with the row's maximum m taken off, every exponential is at most 1; Q rounds it to ``numerator_bits`` of
    fixed point, 2^b - 1 steps from 0 to 1, and what is rounded is added up. Second pass: Q' rounds the sum to a power
    of two times ``denominator_bits`` of mantissa, as a leading-one detector and a table of reciprocals of that many
    entries take it, and each numerator is multiplied by the reciprocal. Both scales are the row's own, so no token's
    rounding depends on another's. Rounding passes gradients straight through. None is full precision; with both None it
    is ``causal`` with softmax=softmax (Vaswani et al. 2017, arXiv:1706.03762).

    x (B, T, C) -> q, k, v (B, H, T, d) -> scores (B, H, T, S) -> y (B, H, T, d) -> (B, T, C). Learns q, k, v: (H d, C),
    o: (C, H d).
    """

    uses = SoftmaxAttention.uses - {"softmax"}

    input_maps = ("q", "k", "v")
    mixes_values = True

    @options
    class Config:
        numerator_bits: Annotated[int, Range(ge=2, le=16)] | None = 8
        denominator_bits: Annotated[int, Range(ge=2, le=16)] | None = 8

    cases = [
        {"numerator_bits": 4},
        {"denominator_bits": 3, "with": {"position": "alibi"}},
        {"numerator_bits": None, "denominator_bits": None},
    ]

    def __init__(self, config: Config, ctx: BuildContext):
        super().__init__()
        self.head_dim = ctx.head_dim
        self.numerator_bits, self.denominator_bits = config.numerator_bits, config.denominator_bits
        inner = ctx.n_head * ctx.head_dim
        self.q = ctx.linear(ctx.d_model, inner, site="q")
        self.k = ctx.linear(ctx.d_model, inner, site="k")
        self.v = ctx.linear(ctx.d_model, inner, site="v")
        self.o = ctx.linear(inner, ctx.d_model, site="o", role="residual_out")
        self.value_mix = self.build_value_mix(ctx, ctx.n_head, self.head_dim)
        self.build_scores(ctx, scale=1 / math.sqrt(self.head_dim), softmax=False, rounds=ROUNDED)

    @property
    def obstacle(self) -> str | None:
        return "two rounded passes"

    def new_state(self, batch: int, capacity: int, device: torch.device, dtype: torch.dtype) -> KVCache:
        return KVCache(batch, self.n_head, capacity, (self.head_dim, self.head_dim), device, dtype)

    def forward(self, x: Tensor, call: Call, state: KVCache | None = None) -> Tensor:
        x = self.quantise["attention_input"](x)
        q, k, v = (split_heads(each(x), self.head_dim) for each in (self.q, self.k, self.v))
        q, k = self.turn(q, k, call)
        v = v if self.value_mix is None else self.value_mix.mix(v, call)
        q, k, v = self.quantise["q"](q), self.quantise["k"](k), self.quantise["v"](v)
        k, v, key_index = (k, v, None) if state is None else state.extend(k, v, call.span)
        y = self.attend(q, k, v, call.span, key_index).transpose(1, 2).flatten(2)
        return self.quantise["attention_output"](self.o(y))

    def weights(self, scores: Tensor) -> Tensor:
        """(B, H, T, S), -inf where masked -> the quotients, rounded once more where probabilities are."""
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
        numerator = torch.exp(scores - scores.detach().amax(dim=-1, keepdim=True))
        if self.numerator_bits is not None:
            steps = 2**self.numerator_bits - 1
            numerator = straight_through(numerator, (numerator * steps).round() / steps)
        denominator = numerator.sum(dim=-1, keepdim=True)
        if self.denominator_bits is not None:
            unit = torch.exp2(denominator.log2().floor() - (self.denominator_bits - 1))  # of the last bit
            denominator = straight_through(denominator, (denominator / unit).round() * unit)
        return self.quantise["probabilities"](numerator / denominator)

    def hardware_form(self, work: Work) -> dict[str, int]:
        """Torch scales the queries in every call; it multiplies and divides to round to a number of bits, where
        hardware cuts them off, finds the leading one by a logarithm, adds a rounding to what is rounded for its
        gradient, and divides each element instead of taking one reciprocal per row."""
        rows = work.all_tokens * self.n_head
        scores = work.batch * self.n_head * self._pairs(work)
        ops = {"mul": rows * self.head_dim, "recip": -rows}
        if self.numerator_bits is not None:
            ops["mul"] += 2 * scores
            ops["add"] = 2 * scores
        if self.denominator_bits is not None:
            ops["mul"] += 2 * rows
            ops["add"] = ops.get("add", 0) + 3 * rows
            ops |= {"log": rows, "exp2": rows, "round": rows}
        return ops

    def cost(self, work: Work) -> Cost:
        n, rows = work.all_tokens * self.n_head * self.head_dim, work.all_tokens * self.n_head
        scores = work.batch * self.n_head * self._pairs(work)
        rounded, head = work.fed(self.quantise["attention_input"].bits), (self.n_head, self.head_dim)
        ops = {"max": scores, "sub": scores, "exp": scores, "add": scores, "mul": scores, "recip": rows}
        ops["round"] = scores * (self.numerator_bits is not None) + rows * (self.denominator_bits is not None)
        return dataclasses.replace(
            self.cache(work, 2 * self.n_head * self.head_dim),
            matmuls=self.products(work, self.head_dim, self.head_dim),
            ops=ops,
            activations=4 * n,
            reductions=2,
            passes=3,
            parts={name: getattr(self, name).cost(rounded) for name in ("q", "k", "v")}
            | {"o": self.o.cost(work)}
            | self.value_mix_parts(work, *head)
            | self.score_parts(work, 2 * self.n_head)
            | self.rounding(work, q=head, k=head, v=head),
        )
