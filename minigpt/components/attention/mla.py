"""Multi-head latent attention: a small latent per token in place of keys and values."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch
from torch import Tensor, nn

from minigpt import registry
from minigpt.components.attention.kv_cache import KVCache
from minigpt.components.attention.scores import SoftmaxAttention, split_heads
from minigpt.components.base import BuildContext
from minigpt.components.call import Call, Span
from minigpt.cost import Cost, Work
from minigpt.errors import UserError
from minigpt.registry import register
from minigpt.schema import PositiveInt, options


@register("attention", "mla")
class LatentAttention(SoftmaxAttention):
    """y = W_o concat_h(softmax(q_h k_h^T / sqrt(d + d_r)) v_h), keys and values of all heads made of one latent per
    token.

    DeepSeek-V2, arXiv:2405.04434: c = norm(W_dkv x), k_h = [W_uk,h c; r], v_h = W_uv,h c, where r = rope(W_kr x) is one
    key for all heads that carries the position; q_h = [W_q,h x; rope(W_qr,h x)].

    latent_dim d_c: None is 4 head_dim. rope_dim d_r: None is half of head_dim; without a rotary encoding these channels
    are a key shared by all heads. q_latent_dim: width of a latent of the queries, too, norm(W_dq x); None has none.

    The cache holds c and r, d_c + d_r elements a token. A prefill expands them to keys and values of all heads; what
    follows is decoded in absorbed form: W_uk joins the query and W_uv the output, so that the heads attend to the
    latents themselves as to one key head, and nothing is expanded: q_h W_uk,h (d_c), scores over [c; r], values c. The
    two maps have no bias, and must be products that leave their input as it is. Keys and values are not there to be
    rounded; a quantiser at site ``latent`` rounds c.

    x (B, T, C) -> q (B, H, T, d + d_r), c (B, T, d_c), r (B, 1, T, d_r) -> y (B, H, T, d) -> (B, T, C). Learns q, W_q
    and W_qr: (H (d + d_r), C), kv_down: (d_c, C), k_rope: (d_r, C), k_up, v_up: (H d, d_c), o: (C, H d), and the norm's
    gain; with q_latent_dim q_down: (q_latent_dim, C), and q reads from there.
    """

    uses = SoftmaxAttention.uses | {"norm"}
    decode_form = "absorbed"
    input_maps = ("first_q", "kv_down", "k_rope")
    q_down: Any
    q_norm: Any

    @options
    class Config:
        latent_dim: PositiveInt | None = None
        rope_dim: PositiveInt | None = None
        q_latent_dim: PositiveInt | None = None

    cases = [
        {"latent_dim": 12, "rope_dim": 6},
        {"q_latent_dim": 12},
        {"rope_dim": 2, "with": {"position": "alibi", "softmax": "consmax"}},
    ]

    def __init__(self, config: Config, ctx: BuildContext):
        super().__init__()
        self.head_dim = ctx.head_dim
        self.latent_dim = config.latent_dim or 4 * ctx.head_dim
        self.rope_dim = config.rope_dim or max(1, ctx.head_dim // 2)
        self.query_dim = self.head_dim + self.rope_dim
        self.q_latent_dim = config.q_latent_dim or ctx.d_model
        self.q_down = self.q_norm = None
        if config.q_latent_dim is not None:
            self.q_down = ctx.linear(ctx.d_model, self.q_latent_dim, site="q_down")
            self.q_norm = ctx.norm(self.q_latent_dim, site="latent")
        self.q = ctx.linear(self.q_latent_dim, ctx.n_head * self.query_dim, site="q")
        self.kv_down = ctx.linear(ctx.d_model, self.latent_dim, site="kv_down")
        self.kv_norm = ctx.norm(self.latent_dim, site="latent")
        self.k_rope = ctx.linear(ctx.d_model, self.rope_dim, site="k_rope")
        self.k_up = self._build_absorbed(ctx, "k_up")
        self.v_up = self._build_absorbed(ctx, "v_up")
        self.o = ctx.linear(ctx.n_head * self.head_dim, ctx.d_model, site="o", role="residual_out")
        rotary = "rotary" in registry.get("position", ctx.block.spec("position").name).places
        if rotary and self.rope_dim == 1:
            raise UserError(
                "attention.rope_dim: 1 channel (None: half of model.head_dim) is no pair that a rotary position could "
                "turn. Take at least 2, or position=nope"
            )
        turned = self.rope_dim if rotary else self.query_dim
        rounds = ("attention_input", "q", "latent", "attention_output")
        self.build_scores(ctx, scale=1 / math.sqrt(self.query_dim), width=turned, rounds=rounds)

    def _build_absorbed(self, ctx: BuildContext, site: str):
        built = ctx.linear(self.latent_dim, ctx.n_head * self.head_dim, site=site, bias=False)
        if not built.one_product or built.bias is not None:
            raise UserError(
                f"attention=mla decodes with its maps k_up and v_up absorbed into query and output; at {site}, "
                f"linear={ctx.block.spec('linear', site)} is not a product with a weight alone. "
                f"Set sites.linear.k_up=linear and sites.linear.v_up=linear, or choose attention=causal"
            )
        return built

    @property
    def path(self) -> str:
        return f"{super().path}; decoded in absorbed form"

    def new_state(self, batch: int, capacity: int, device: torch.device, dtype: torch.dtype) -> KVCache:
        return KVCache(batch, 1, capacity, (self.latent_dim + self.rope_dim, 0), device, dtype)

    def forward(self, x: Tensor, call: Call, state: KVCache | None = None) -> Tensor:
        x = self.quantise["attention_input"](x)
        content, turned = self.queries(x).split([self.head_dim, self.rope_dim], dim=-1)  # (B, H, T, d), (B, H, T, d_r)
        latent = self.quantise["latent"](self.kv_norm(self.kv_down(x)))  # (B, T, d_c)
        shared = self.k_rope(x)[:, None]  # (B, 1, T, d_r)
        turned, shared = self.turn(turned, shared, call)
        q = self.quantise["q"](torch.cat([content, turned], dim=-1))
        if state is not None:
            kept = torch.cat([latent[:, None], shared.to(latent.dtype)], dim=-1)  # (B, 1, T, d_c + d_r)
            seen, _, key_index = state.extend(kept, kept[..., :0], call.span)
        if state is None or call.span.start == 0:
            y = self.attend_expanded(q, latent, shared, call.span)
        else:
            y = self.attend_absorbed(q, seen, call.span, key_index)
        return self.quantise["attention_output"](self.o(y.transpose(1, 2).flatten(2)))  # (B, T, H d) -> (B, T, C)

    @property
    def first_q(self) -> nn.Module:
        """The map of the queries that reads x."""
        return self.q if self.q_down is None else self.q_down

    def queries(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, H, T, d + d_r), not turned."""
        if self.q_down is not None:
            x = self.q_norm(self.q_down(x))
        return split_heads(self.q(x), self.query_dim)

    def attend_expanded(self, q: Tensor, latent: Tensor, shared: Tensor, span: Span) -> Tensor:
        """Keys and values of every head, made of this call's latents: (B, H, T, d)."""
        content = split_heads(self.k_up(latent), self.head_dim)  # (B, H, T, d)
        k = torch.cat([content, shared.to(content.dtype).expand(-1, self.n_head, -1, -1)], dim=-1)
        return self.attend(q, k, split_heads(self.v_up(latent), self.head_dim), span)

    def attend_absorbed(self, q: Tensor, seen: Tensor, span: Span, key_index: Tensor) -> Tensor:
        """The latents are the keys, and the values, of one head that all queries share: (B, H, T, d).

        seen: (B, 1, S, d_c + d_r). The fused kernel takes values as wide as keys, so it gets what is there, uncut.
        """
        to_latent, from_latent = (
            up.effective_weight().unflatten(0, (self.n_head, self.head_dim)) for up in (self.k_up, self.v_up)
        )  # (H, d, d_c)
        content, turned = q.split([self.head_dim, self.rope_dim], dim=-1)
        absorbed = torch.cat([torch.einsum("bhtd,hdc->bhtc", content, to_latent), turned.to(q.dtype)], dim=-1)
        values = seen if self.obstacle is None else seen[..., : self.latent_dim]
        y = self.attend(absorbed, seen, values, span, key_index, asked=q)[..., : self.latent_dim]  # (B, H, T, d_c)
        return torch.einsum("bhtc,hdc->bhtd", y, from_latent)

    def _absorbs(self, work: Work) -> bool:
        return work.context > work.tokens

    def hardware_form(self, work: Work) -> dict[str, int]:
        """Torch scales the queries in every call; the scale is folded into their matrix."""
        return self.scaling(work, self.latent_dim + self.rope_dim if self._absorbs(work) else self.query_dim)

    def cost(self, work: Work) -> Cost:
        heads, n = self.n_head * self.head_dim, work.all_tokens
        rounded = work.fed(self.quantise["attention_input"].bits)
        reading = ["kv_down", "k_rope", "q" if self.q_down is None else "q_down"]
        parts = {name: getattr(self, name).cost(rounded) for name in reading}
        parts |= {name: getattr(self, name).cost(work) for name in ("q", "o") if name not in parts}
        parts |= {n: getattr(self, n).cost(work.fed(self.quantise["latent"].bits)) for n in ("k_up", "v_up")}
        parts["kv_norm"] = self.kv_norm.cost(work.over(n, n * self.latent_dim))
        if self.q_norm is not None:
            parts["q_norm"] = self.q_norm.cost(work.over(n, n * self.q_latent_dim))
        products = self.products(work, self.query_dim, self.head_dim)
        if self._absorbs(work):
            scores, found = self.products(work, self.latent_dim + self.rope_dim, self.latent_dim)
            products = (dataclasses.replace(scores, left_bits=None), found)  # what was rounded went through W_uk since
            for name in ("k_up", "v_up"):  # as many products as expanding the new tokens, between latents and heads
                moved = n * self.n_head * (self.head_dim + self.latent_dim)
                parts[name] = dataclasses.replace(getattr(self, name).cost(work), activations=moved)
        return dataclasses.replace(
            self.cache(work, self.latent_dim + self.rope_dim),
            matmuls=products,
            ops=self.score_ops(work),
            activations=n * (self.n_head * self.query_dim + self.rope_dim + 3 * heads),
            parts=parts
            | self.score_parts(work, self.n_head + 1)
            | self.rounding(work, q=(self.n_head, self.query_dim), latent=(1, self.latent_dim)),
        )
