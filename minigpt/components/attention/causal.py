"""Causal softmax attention, and everything that is an option of it: GQA, MQA, windows, softcap, norms, gates, sinks."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import torch
from torch import Tensor, nn

from minigpt.components.attention.kv_cache import KVCache
from minigpt.components.attention.scores import ROUNDED, SoftmaxAttention, grouped, split_heads
from minigpt.components.base import BuildContext
from minigpt.components.call import Call
from minigpt.cost import Cost, Work
from minigpt.errors import UserError
from minigpt.registry import register
from minigpt.schema import PositiveFloat, PositiveInt, Probability, options


@register("attention", "causal")
class CausalAttention(SoftmaxAttention):
    """y = softmax(q k^T / sqrt(head_dim) + mask) v, H query heads over n_kv_head key and value heads.

    Vaswani et al. 2017, arXiv:1706.03762; MQA: Shazeer 2019, arXiv:1911.02150; GQA: Ainslie et al. 2023,
    arXiv:2305.13245; window: Beltagy et al. 2020, arXiv:2004.05150; softcap: Gemma 2, arXiv:2408.00118; qk_norm: Henry
    et al. 2020, arXiv:2010.04245, with the block's norm and its learned gain; over all heads at once: OLMo 2,
    arXiv:2501.00656; v_norm, of each head's values: Gemma 3n; gate: Qiu et al. 2025, arXiv:2505.06708; sinks: Xiao et
    al. 2023, arXiv:2309.17453, as learned scores: gpt-oss, arXiv:2508.10925.

    n_kv_head: None is one per query head; query head h reads key head floor(h n_kv_head / n_head), groups may be
    uneven. window: keys a token sees, itself included. softcap c: scores become c tanh(s / c). scale_width: scores are
    divided by its square root; None is head_dim. qk_norm_over: one norm for each ``head`` alone, or one for all
    ``heads`` together. gate: each head's result is multiplied by sigmoid(x W_g^T), one number a head (``headwise``) or
    one a channel (``elementwise``). sinks: a score s_h learned by each head joins every row's softmax, and its weight
    goes to no value. dropout: None is model.dropout.

    x (B, T, C) -> q (B, H, T, d), k, v (B, n_kv_head, S, d) -> scores (B, H, T, S) -> y (B, H, T, d) -> (B, T, C).
    Learns q: (H d, C), k, v: (n_kv_head d, C), o: (C, H d) and, where chosen, gate W_g: (H, C) or (H d, C), sinks:
    (H,), the gains of the norms.
    """

    input_maps = ("q", "k", "v", "gate")
    mixes_values = True

    @options
    class Config:
        n_kv_head: PositiveInt | None = None
        window: PositiveInt | None = None
        softcap: PositiveFloat | None = None
        scale_width: PositiveFloat | None = None
        qk_norm: bool = False
        qk_norm_over: Literal["head", "heads"] = "head"
        v_norm: bool = False
        gate: Literal["none", "headwise", "elementwise"] = "none"
        sinks: bool = False
        dropout: Probability | None = None

    cases = [
        {"n_kv_head": 2},
        {"n_kv_head": 3},
        {"window": 5},
        {"softcap": 2.0},
        {"scale_width": 2.0},
        {"qk_norm": True, "v_norm": True, "gate": "headwise"},
        {"qk_norm": True, "qk_norm_over": "heads", "n_kv_head": 2},
        {"sinks": True, "gate": "elementwise"},
        {"dropout": 0.5},
        {"sinks": True, "n_kv_head": 2, "window": 9, "with": {"position": "alibi"}},
    ]

    def __init__(self, config: Config, ctx: BuildContext):
        super().__init__()
        self.head_dim, self.n_kv_head = ctx.head_dim, grouped(config.n_kv_head, ctx)
        if config.window is not None and config.window > ctx.block_size:
            raise UserError(
                f"attention.window: {config.window} is more than model.block_size={ctx.block_size} and would do "
                f"nothing. Take at most {ctx.block_size}, or null"
            )
        self.window, self.softcap = config.window, config.softcap
        self.q = ctx.linear(ctx.d_model, ctx.n_head * self.head_dim, site="q")
        self.k = ctx.linear(ctx.d_model, self.n_kv_head * self.head_dim, site="k")
        self.v = ctx.linear(ctx.d_model, self.n_kv_head * self.head_dim, site="v")
        self.o = ctx.linear(ctx.n_head * self.head_dim, ctx.d_model, site="o", role="residual_out")
        self.gate, self.gate_width = None, 1 if config.gate == "headwise" else self.head_dim
        if config.gate != "none":
            self.gate = ctx.linear(ctx.d_model, ctx.n_head * self.gate_width, site="attention_gate")
        self.normed_together = config.qk_norm_over == "heads"
        self.q_norm, self.k_norm, self.v_norm = self._build_norms(config, ctx)
        self.value_mix = self.build_value_mix(ctx, self.n_kv_head, self.head_dim)
        scale = 1 / math.sqrt(config.scale_width or self.head_dim)
        self.build_scores(ctx, scale=scale, dropout=config.dropout, sinks=config.sinks, rounds=ROUNDED)

    def _build_norms(self, config: Config, ctx: BuildContext):
        if config.qk_norm_over != "head" and not config.qk_norm:
            raise UserError("attention.qk_norm_over: does nothing without a norm. Set attention.qk_norm=true too")
        for option, site in (("qk_norm", "qk"), ("v_norm", "v")):
            if getattr(config, option) and ctx.block.spec("norm", site).name == "identity":
                raise UserError(
                    f"attention.{option}: does nothing with norm=identity. Choose another norm, or {option}=false"
                )
        heads = (ctx.n_head, self.n_kv_head) if self.normed_together else (1, 1)
        q_norm, k_norm = (ctx.norm(n * self.head_dim, site="qk") if config.qk_norm else None for n in heads)
        return q_norm, k_norm, ctx.norm(self.head_dim, site="v") if config.v_norm else None

    def new_state(self, batch: int, capacity: int, device: torch.device, dtype: torch.dtype) -> KVCache:
        capacity = capacity if self.window is None else min(capacity, self.window)
        return KVCache(batch, self.n_kv_head, capacity, (self.head_dim, self.head_dim), device, dtype)

    def forward(self, x: Tensor, call: Call, state: KVCache | None = None) -> Tensor:
        x = self.quantise["attention_input"](x)
        q, k, v = self.project(x, call)
        k, v, key_index = (k, v, None) if state is None else state.extend(k, v, call.span)  # (B, n_kv_head, S, d)
        y = self.attend(q, k, v, call.span, key_index)
        if self.gate is not None:
            y = y * split_heads(self.gate(x), self.gate_width).sigmoid()  # (B, H, T, 1 or d)
        return self.quantise["attention_output"](self.o(y.transpose(1, 2).flatten(2)))  # (B, T, H d) -> (B, T, C)

    def project(self, x: Tensor, call: Call) -> tuple[Tensor, Tensor, Tensor]:
        """x: (B, T, C) -> queries, keys and values of this call's tokens, normed, turned and rounded: (B, heads, T, d)
        each."""
        q, k = self._normed(self.q(x), self.q_norm), self._normed(self.k(x), self.k_norm)
        v = split_heads(self.v(x), self.head_dim)
        q, k = self.turn(q, k, call)
        v = v if self.v_norm is None else self.v_norm(v)
        v = v if self.value_mix is None else self.value_mix.mix(v, call)
        return self.quantise["q"](q), self.quantise["k"](k), self.quantise["v"](v)

    def _normed(self, x: Tensor, norm: nn.Module | None) -> Tensor:
        """(B, T, heads d) -> (B, heads, T, d)."""
        if norm is not None and self.normed_together:
            return split_heads(norm(x), self.head_dim)
        x = split_heads(x, self.head_dim)
        return x if norm is None else norm(x)

    def hardware_form(self, work: Work) -> dict[str, int]:
        """Torch scales the queries in every call; the scale is folded into their matrix. It has the gate's sigmoid as
        one operation."""
        more = self.scaling(work, self.head_dim)
        if self.gate is None:
            return more
        n = work.all_tokens * self.n_head * self.gate_width
        return more | {"sigmoid": n, "exp": -n, "add": -n, "recip": -n}

    def cost(self, work: Work) -> Cost:
        width, kv_width = self.n_head * self.head_dim, 2 * self.n_kv_head * self.head_dim
        key = (self.n_kv_head, self.head_dim)
        rounded = work.fed(self.quantise["attention_input"].bits)
        parts = {name: getattr(self, name).cost(rounded) for name in ("q", "k", "v")} | {"o": self.o.cost(work)}
        for name, heads in (("q_norm", self.n_head), ("k_norm", self.n_kv_head), ("v_norm", self.n_kv_head)):
            rows = work.all_tokens * (1 if self.normed_together and name != "v_norm" else heads)
            if getattr(self, name) is not None:
                parts[name] = getattr(self, name).cost(work.over(rows, work.all_tokens * heads * self.head_dim))
        ops, gates = self.score_ops(work), 0
        if self.gate is not None:
            parts["gate"] = self.gate.cost(rounded)
            gates = work.all_tokens * self.n_head * self.gate_width
            ops = {"exp": gates, "add": gates, "recip": gates} | ops
            ops["mul"] = ops.get("mul", 0) + work.all_tokens * width
        params = self.own_params()
        return dataclasses.replace(
            self.cache(work, kv_width),
            params=params,
            weights_read={"native": params},
            matmuls=self.products(work, self.head_dim, self.head_dim),
            ops=ops,
            activations=work.all_tokens * (2 * width + kv_width) + gates,
            parts=parts
            | self.value_mix_parts(work, *key)
            | self.score_parts(work, self.n_head + self.n_kv_head)
            | self.rounding(work, q=(self.n_head, self.head_dim), k=key, v=key),
        )
