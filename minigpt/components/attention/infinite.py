"""Attention whose heads have any width, whatever the model's."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import torch
from torch import Tensor

from minigpt.components.attention.kv_cache import KVCache
from minigpt.components.attention.scores import ROUNDED, SoftmaxAttention, grouped, split_heads
from minigpt.components.base import BuildContext
from minigpt.components.call import Call
from minigpt.cost import Cost, Work
from minigpt.errors import UserError
from minigpt.registry import register
from minigpt.schema import PositiveInt, options


@register("attention", "infinite")
class InfiniteAttention(SoftmaxAttention):
    """y = softmax(q k^T / sqrt(d_qk)) v with H heads of widths that do not divide d_model, summed or concatenated.

    The formula is that of Vaswani et al. 2017, arXiv:1706.03762; q, k: C -> H d_qk, v: C -> H d_v.

    qk_head_dim d_qk, v_head_dim d_v: None is head_dim. combine: ``sum`` adds up what the heads found and maps it by one
    W_o: d_v -> C (a W_o of each head's own, summed, is ``concat`` in other words); ``concat`` maps all of it by W_o: H
    d_v -> C. n_kv_head: None is one per query head. qk_l2: queries and keys have length 1, and scores are their cosine
    times sqrt(d_qk) (nGPT, arXiv:2410.01131). v_l2: values have length 1.

    x (B, T, C) -> q (B, H, T, d_qk), k (B, n_kv_head, S, d_qk), v (B, n_kv_head, S, d_v) -> y (B, H, T, d_v) ->
    (B, T, C). Learns q: (H d_qk, C), k: (n_kv_head d_qk, C), v: (n_kv_head d_v, C), o: (C, d_v), or (C, H d_v) with
    concat.
    """

    input_maps = ("q", "k", "v")
    mixes_values = True

    @options
    class Config:
        qk_head_dim: PositiveInt | None = None
        v_head_dim: PositiveInt | None = None
        combine: Literal["sum", "concat"] = "sum"
        n_kv_head: PositiveInt | None = None
        qk_l2: bool = False
        v_l2: bool = False

    cases = [
        {"qk_head_dim": 4, "v_head_dim": 12},
        {"combine": "concat", "v_head_dim": 6},
        {"n_kv_head": 2, "qk_l2": True, "v_l2": True},
        {"qk_head_dim": 12, "with": {"softmax": "consmax", "position": "alibi"}},
    ]

    def __init__(self, config: Config, ctx: BuildContext):
        super().__init__()
        self.qk_dim, self.v_dim = config.qk_head_dim or ctx.head_dim, config.v_head_dim or ctx.head_dim
        self.n_kv_head = grouped(config.n_kv_head, ctx)
        self.summed, self.qk_l2, self.v_l2 = config.combine == "sum", config.qk_l2, config.v_l2
        if not self.summed and ctx.n_head == 1:
            raise UserError(
                "attention.combine: concat does with one head what sum does. Take more than model.n_head=1, "
                "or attention.combine=sum"
            )
        self.q = ctx.linear(ctx.d_model, ctx.n_head * self.qk_dim, site="q")
        self.k = ctx.linear(ctx.d_model, self.n_kv_head * self.qk_dim, site="k")
        self.v = ctx.linear(ctx.d_model, self.n_kv_head * self.v_dim, site="v")
        found = self.v_dim if self.summed else ctx.n_head * self.v_dim
        self.o = ctx.linear(found, ctx.d_model, site="o", role="residual_out")
        self.value_mix = self.build_value_mix(ctx, self.n_kv_head, self.v_dim)
        scale = math.sqrt(self.qk_dim) if self.qk_l2 else 1 / math.sqrt(self.qk_dim)
        self.build_scores(ctx, scale=scale, width=self.qk_dim, rounds=ROUNDED)

    def new_state(self, batch: int, capacity: int, device: torch.device, dtype: torch.dtype) -> KVCache:
        return KVCache(batch, self.n_kv_head, capacity, (self.qk_dim, self.v_dim), device, dtype)

    def forward(self, x: Tensor, call: Call, state: KVCache | None = None) -> Tensor:
        x = self.quantise["attention_input"](x)
        q, k, v = split_heads(self.q(x), self.qk_dim), split_heads(self.k(x), self.qk_dim), self.v(x)
        v = split_heads(v, self.v_dim)
        if self.qk_l2:
            q, k = of_length_one(q), of_length_one(k)
        if self.v_l2:
            v = of_length_one(v)
        q, k = self.turn(q, k, call)
        v = v if self.value_mix is None else self.value_mix.mix(v, call)
        q, k, v = self.quantise["q"](q), self.quantise["k"](k), self.quantise["v"](v)
        k, v, key_index = (k, v, None) if state is None else state.extend(k, v, call.span)
        y = self.attend(q, k, v, call.span, key_index)  # (B, H, T, d_v)
        y = y.sum(dim=1) if self.summed else y.transpose(1, 2).flatten(2)
        return self.quantise["attention_output"](self.o(y))

    def _normed(self, work: Work) -> tuple[int, int]:
        """Vectors brought to length one in a call, and their elements."""
        heads = ((self.n_head + self.n_kv_head) * self.qk_l2, self.n_kv_head * self.v_l2)
        widths = (self.qk_dim, self.v_dim)
        return work.all_tokens * sum(heads), work.all_tokens * sum(h * w for h, w in zip(heads, widths, strict=True))

    def hardware_form(self, work: Work) -> dict[str, int]:
        """Torch scales the queries in every call; the scale is folded into their matrix, or into the length they are
        brought to. It guards that length."""
        return self.scaling(work, self.qk_dim) | {"cmp": self._normed(work)[0]}

    def cost(self, work: Work) -> Cost:
        n, (rows, elements) = work.all_tokens, self._normed(work)
        rounded, key = work.fed(self.quantise["attention_input"].bits), (self.n_kv_head, self.qk_dim)
        found = n * self.n_head * self.v_dim
        ops = {"add": elements + (found if self.summed else 0), "mul": 2 * elements, "rsqrt": rows}
        kv_width = self.n_kv_head * (self.qk_dim + self.v_dim)
        handed = n * self.v_dim if self.summed else found
        return dataclasses.replace(
            self.cache(work, kv_width),
            matmuls=self.products(work, self.qk_dim, self.v_dim),
            ops={op: count for op, count in ops.items() if count},
            activations=n * (self.n_head * self.qk_dim + kv_width) + handed,
            parts={name: getattr(self, name).cost(rounded) for name in ("q", "k", "v")}
            | {"o": self.o.cost(work)}
            | self.value_mix_parts(work, self.n_kv_head, self.v_dim)
            | self.score_parts(work, self.n_head + self.n_kv_head)
            | self.rounding(work, q=(self.n_head, self.qk_dim), k=key, v=(self.n_kv_head, self.v_dim)),
        )


def of_length_one(x: Tensor) -> Tensor:
    """x / |x| over the last dimension; a zero vector stays zero."""
    return x * x.square().sum(dim=-1, keepdim=True).clamp_min(torch.finfo(x.dtype).tiny).rsqrt()
