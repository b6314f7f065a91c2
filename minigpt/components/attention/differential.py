"""Differential attention: what two softmaxes agree on cancels."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor, nn

from minigpt.components.attention.kv_cache import KVCache
from minigpt.components.attention.scores import ROUNDED, SoftmaxAttention, split_heads
from minigpt.components.base import BuildContext
from minigpt.components.call import Call
from minigpt.components.initialiser import Initialiser
from minigpt.cost import Cost, Work
from minigpt.errors import UserError
from minigpt.registry import register
from minigpt.schema import options


@register("attention", "differential")
class DifferentialAttention(SoftmaxAttention):
    """y_h = (1 - l0) norm((softmax(q1 k1^T) - lambda softmax(q2 k2^T)) v), scores over sqrt(head_dim / 2).

    Ye et al. 2024, arXiv:2410.05258. A head's queries and keys are two of half its width, its values are whole, so that
    it has as many parameters as a head of ``causal`` (the paper's d is head_dim / 2). lambda = exp(a1 . b1) -
    exp(a2 . b2) + l0 is one number for the layer, l0 = 0.8 - 0.6 e^(-0.3 (l - 1)) at layer l = 1, 2, ... The norm is
    the block's, over each head alone.

    x (B, T, C) -> q1, q2, k1, k2 (B, H, T, d / 2), v (B, H, T, d) -> y (B, H, T, d) -> (B, T, C). Learns q, k, v:
    (H d, C), o: (C, H d), a1, b1, a2, b2 as directions: (2, 2, d / 2), started at 0.1 of a normal distribution, and the
    norm's gain.
    """

    uses = SoftmaxAttention.uses | {"norm"}

    input_maps = ("q", "k", "v")
    mixes_values = True

    @options
    class Config:
        pass

    cases = [{"with": {"softmax": "consmax", "position": "alibi"}}, {}]

    def __init__(self, config: Config, ctx: BuildContext):
        super().__init__()
        if ctx.head_dim % 2:
            raise UserError(
                f"attention=differential splits a head in two, model.head_dim={ctx.head_dim} is odd. "
                f"Take an even model.head_dim"
            )
        self.head_dim, self.half_dim = ctx.head_dim, ctx.head_dim // 2
        inner = ctx.n_head * ctx.head_dim
        self.q = ctx.linear(ctx.d_model, inner, site="q")
        self.k = ctx.linear(ctx.d_model, inner, site="k")
        self.v = ctx.linear(ctx.d_model, inner, site="v")
        self.o = ctx.linear(inner, ctx.d_model, site="o", role="residual_out")
        self.lambda_start = 0.8 - 0.6 * math.exp(-0.3 * ctx.layer_index)
        self.directions = nn.Parameter(torch.empty(2, 2, self.half_dim))  # a and b of each softmax
        self.head_norm = ctx.norm(self.head_dim, site="heads")
        self.value_mix = self.build_value_mix(ctx, ctx.n_head, self.head_dim)
        self.build_scores(ctx, scale=1 / math.sqrt(self.half_dim), width=self.half_dim, rounds=ROUNDED)

    def init_parameters(self, init: Initialiser) -> None:
        super().init_parameters(init)
        shape = self.directions.shape
        init.values(self.directions, lambda generator: 0.1 * torch.randn(shape, generator=generator), "scalar")

    def new_state(self, batch: int, capacity: int, device: torch.device, dtype: torch.dtype) -> KVCache:
        return KVCache(batch, self.n_head, capacity, (self.head_dim, self.head_dim), device, dtype)

    def forward(self, x: Tensor, call: Call, state: KVCache | None = None) -> Tensor:
        x = self.quantise["attention_input"](x)
        q, k = (split_heads(each, self.half_dim) for each in (self.q(x), self.k(x)))  # (B, 2 H, T, d / 2)
        q, k = self.turn(q, k, call)
        q, k = self.quantise["q"](q), self.quantise["k"](k)
        k = torch.cat(k.unflatten(1, (-1, 2)).unbind(2), dim=-1)  # (B, H, T, d): k1 and k2 of a head side by side
        v = split_heads(self.v(x), self.head_dim)
        v = self.quantise["v"](v if self.value_mix is None else self.value_mix.mix(v, call))
        k, v, key_index = (k, v, None) if state is None else state.extend(k, v, call.span)
        found = [
            self.attend(each_q, each_k, v, call.span, key_index)
            for each_q, each_k in zip(q.unflatten(1, (-1, 2)).unbind(2), k.chunk(2, dim=-1), strict=True)
        ]
        y = found[0] - self.mixing().to(v.dtype) * found[1]  # (B, H, T, d)
        y = self.head_norm(y) * (1 - self.lambda_start)
        return self.quantise["attention_output"](self.o(y.transpose(1, 2).flatten(2)))

    def mixing(self) -> Tensor:
        """lambda: how much of the second softmax is taken away."""
        first, second = self.directions.prod(dim=1).sum(dim=-1).exp()
        return first - second + self.lambda_start

    def hardware_form(self, work: Work) -> dict[str, int]:
        """Torch scales the queries and the normed results in every call; both are folded into matrices. It has lambda
        as a constant of its weights."""
        return {"mul": work.all_tokens * 2 * self.n_head * self.head_dim}

    def cost(self, work: Work) -> Cost:
        n = work.all_tokens * self.n_head * self.head_dim
        rounded, key = work.fed(self.quantise["attention_input"].bits), (2 * self.n_head, self.half_dim)
        parts = {name: getattr(self, name).cost(rounded) for name in ("q", "k", "v")} | {"o": self.o.cost(work)}
        parts["head_norm"] = self.head_norm.cost(work.over(work.all_tokens * self.n_head, n))
        params = self.own_params()
        return dataclasses.replace(
            self.cache(work, 2 * self.n_head * self.head_dim),
            params=params,
            weights_read={"native": params},
            matmuls=2 * self.products(work, self.half_dim, self.head_dim),
            ops={"mul": n, "sub": n},
            activations=6 * n,
            parts=parts
            | self.value_mix_parts(work, self.n_head, self.head_dim)
            | self.score_parts(work, 4 * self.n_head)
            | self.score_parts_again(work)
            | self.rounding(work, q=key, k=key, v=(self.n_head, self.head_dim)),
        )
