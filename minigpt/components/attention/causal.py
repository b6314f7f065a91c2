"""Causal softmax attention, and everything that is an option of it: GQA, MQA, windows, softcap, QK norm."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minigpt.components.attention.base import Attention
from minigpt.components.attention.kv_cache import KVCache
from minigpt.components.base import BuildContext
from minigpt.components.call import Call, Span
from minigpt.cost import Cost, Matmul, Work
from minigpt.errors import UserError
from minigpt.registry import register
from minigpt.schema import PositiveFloat, PositiveInt, Probability, options


@register("attention", "causal")
class CausalAttention(Attention):
    """softmax(q k^T / sqrt(head_dim) + mask) v, H query heads over n_kv_head key and value heads.

    Vaswani et al. 2017, arXiv:1706.03762; MQA: Shazeer 2019, arXiv:1911.02150; GQA: Ainslie et al. 2023,
    arXiv:2305.13245; window: Beltagy et al. 2020, arXiv:2004.05150; softcap: Gemma 2, arXiv:2408.00118; qk_norm: Henry
    et al. 2020, arXiv:2010.04245, with the block's norm; over all heads at once: OLMo 2, arXiv:2501.00656.

    n_kv_head: None is one per query head; query head h reads key head floor(h n_kv_head / n_head), groups may be
    uneven. window: keys a token sees, itself included. softcap c: scores become c tanh(s / c). scale_width: scores are
    divided by its square root; None is head_dim. qk_norm_over: one norm for each head alone, or for all of them
    together. dropout: None is model.dropout.

    x (B, T, C) -> q (B, H, T, d), k, v (B, n_kv_head, S, d) -> scores (B, H, T, S) -> y (B, H, T, d) -> (B, T, C)
    """

    uses = frozenset({"softmax", "linear", "position"})
    places = frozenset({"rotary", "score"})

    @options
    class Config:
        n_kv_head: PositiveInt | None = None
        window: PositiveInt | None = None
        softcap: PositiveFloat | None = None
        scale_width: PositiveFloat | None = None
        qk_norm: bool = False
        qk_norm_over: Literal["head", "heads"] = "head"
        dropout: Probability | None = None

    cases = [
        {"n_kv_head": 2},
        {"n_kv_head": 3},
        {"window": 5},
        {"softcap": 2.0},
        {"scale_width": 2.0},
        {"qk_norm": True},
        {"qk_norm": True, "qk_norm_over": "heads", "n_kv_head": 2},
        {"dropout": 0.5},
        {"n_kv_head": 2, "window": 9, "with": {"position": "alibi"}},
    ]

    def __init__(self, config: Config, ctx: BuildContext):
        super().__init__()
        self.n_head, self.head_dim = ctx.n_head, ctx.head_dim
        self.n_kv_head = config.n_kv_head or ctx.n_head
        if self.n_kv_head > self.n_head:
            raise UserError(
                f"attention.n_kv_head: {self.n_kv_head} is more than model.n_head={self.n_head}. "
                f"Take at most {self.n_head}, or more heads"
            )
        if config.window is not None and config.window > ctx.block_size:
            raise UserError(
                f"attention.window: {config.window} is more than model.block_size={ctx.block_size} and would do "
                f"nothing. Take at most {ctx.block_size}, or null"
            )
        self.window, self.softcap = config.window, config.softcap
        self.scale = 1 / math.sqrt(config.scale_width or self.head_dim)
        self.dropout = ctx.dropout if config.dropout is None else config.dropout
        self.q = ctx.linear(ctx.d_model, self.n_head * self.head_dim, site="q")
        self.k = ctx.linear(ctx.d_model, self.n_kv_head * self.head_dim, site="k")
        self.v = ctx.linear(ctx.d_model, self.n_kv_head * self.head_dim, site="v")
        self.o = ctx.linear(self.n_head * self.head_dim, ctx.d_model, site="o", role="residual_out")
        self.normed_together = config.qk_norm_over == "heads"
        self.q_norm, self.k_norm = self._build_qk_norm(config, ctx)
        self.softmax = ctx.build("softmax")
        self.position = self.build_position(ctx)

    def _build_qk_norm(self, config: Config, ctx: BuildContext):
        if not config.qk_norm:
            if config.qk_norm_over != "head":
                raise UserError("attention.qk_norm_over: does nothing without a norm. Set attention.qk_norm=true too")
            return None, None
        if ctx.block.spec("norm", "qk").name == "identity":
            raise UserError("attention.qk_norm: does nothing with norm=identity. Choose another norm, or qk_norm=false")
        heads = (self.n_head, self.n_kv_head) if self.normed_together else (1, 1)
        return tuple(ctx.norm(n * self.head_dim, site="qk") for n in heads)

    def new_state(self, batch: int, capacity: int, device: torch.device, dtype: torch.dtype) -> KVCache:
        capacity = capacity if self.window is None else min(capacity, self.window)
        return KVCache(batch, self.n_kv_head, capacity, (self.head_dim, self.head_dim), device, dtype)

    def forward(self, x: Tensor, call: Call, state: KVCache | None = None) -> Tensor:
        q, k, v = self.project(x, call)
        k, v, key_index = (k, v, None) if state is None else state.extend(k, v, call.span)  # (B, n_kv_head, S, d)
        return self.mix(q, k, v, call, key_index)

    def project(self, x: Tensor, call: Call) -> tuple[Tensor, Tensor, Tensor]:
        """x: (B, T, C) -> queries, keys and values of this call's tokens, normed and turned: (B, heads, T, d) each."""
        q, k, v = self._normed(self.q(x), self.q_norm), self._normed(self.k(x), self.k_norm), self._heads(self.v(x))
        if self.position is not None and "rotary" in self.position.serves:
            q, k = self.position.rotate(q, call, "query"), self.position.rotate(k, call, "key")
        return q, k, v

    def _normed(self, x: Tensor, norm: nn.Module | None) -> Tensor:
        """(B, T, heads d) -> (B, heads, T, d)."""
        if norm is None:
            return self._heads(x)
        return self._heads(norm(x)) if self.normed_together else norm(self._heads(x))

    def mix(self, q: Tensor, k: Tensor, v: Tensor, call: Call, key_index: Tensor | None) -> Tensor:
        """What the queries find among all keys, through the output map: (B, T, C).

        key_index: (S,) index of each key, None when the keys are this call's tokens.
        """
        attend = self.attend_fused if self._takes_fused else self.attend_explicitly
        y = attend(q, k.to(q.dtype), v.to(q.dtype), call.span, key_index)
        return self.o(y.transpose(1, 2).flatten(2))  # (B, T, H d) -> (B, T, C)

    def attend_fused(self, q: Tensor, k: Tensor, v: Tensor, span: Span, key_index: Tensor | None) -> Tensor:
        """PyTorch's fused kernel: scores are never stored."""
        k, v = self._even_groups(k), self._even_groups(v)
        mask, is_causal = self._mask(q, k, span, key_index)
        sink = self.softmax.sink()
        if sink is not None:
            mask, is_causal = self._mask_with_sink(q, k, mask, is_causal, sink), False
            k, v = (F.pad(x, (0, 0, 0, 1)) for x in (k, v))  # (B, n_kv_head, S + 1, d)
        return F.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=mask,
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=is_causal,
            enable_gqa=k.shape[1] != q.shape[1],
            scale=self.scale,
        )

    def attend_explicitly(self, q: Tensor, k: Tensor, v: Tensor, span: Span, key_index: Tensor | None) -> Tensor:
        """Score by score, for every softmax and option the fused kernel does not know."""
        k, v = self._per_query_head(k), self._per_query_head(v)  # (B, H, S, d)
        scores = (q @ k.transpose(-2, -1)) * self.scale  # (B, H, T, S)
        if self.softcap is not None:
            scores = self.softcap * torch.tanh(scores / self.softcap)
        index = span.index if key_index is None else key_index
        if self.biased:
            scores = scores + self._bias(q, span, index)
        scores = scores.masked_fill(~span.visible(index, self.window), -math.inf)
        weights = F.dropout(self.softmax(scores), self.dropout, self.training)
        return weights.to(v.dtype) @ v  # (B, H, T, d)

    @property
    def _takes_fused(self) -> bool:
        """Whether the fused kernel knows all that was chosen."""
        return self.softmax.fused and self.softcap is None

    @property
    def biased(self) -> bool:
        """Whether the position encoding adds to the scores."""
        return self.position is not None and "score" in self.position.serves

    def _bias(self, q: Tensor, span: Span, key_index: Tensor) -> Tensor:
        """(H, T, S) or (B, H, T, S)."""
        return self.position.score_bias(q, span.positions, span.positions_at(key_index))

    def _mask(self, q: Tensor, k: Tensor, span: Span, key_index: Tensor | None) -> tuple[Tensor | None, bool]:
        """What SDPA needs: (mask, is_causal), never both. No mask is built where causality alone, or nothing, hides a
        key."""
        keys = k.shape[2]
        windowed = self.window is not None and self.window < keys
        if span.padding is None and not self.biased and not windowed:
            if span.length == keys:
                return None, True
            if span.length == 1:
                return None, False
        index = span.index if key_index is None else key_index
        visible = span.visible(index, self.window)
        if not self.biased:
            return visible, False
        return self._bias(q, span, index).to(q.dtype).masked_fill(~visible, -math.inf), False

    def _mask_with_sink(self, q: Tensor, k: Tensor, mask: Tensor | None, is_causal: bool, sink: Tensor) -> Tensor:
        """The mask for one more key at the end, which every query sees with the score ``sink``: (..., T, S + 1).

        SDPA's own causality counts from the first key, so a query would take the last one's place for its own.
        """
        if mask is None:
            mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device)
            mask = mask.tril() if is_causal else mask
        if mask.dtype == torch.bool:
            mask = torch.zeros_like(mask, dtype=q.dtype).masked_fill(~mask, -math.inf)
        *rows, _ = torch.broadcast_shapes(mask[..., :1].shape, sink.shape)
        mask = torch.cat([mask.expand(*rows, -1), sink.to(q.dtype).expand(*rows, 1)], dim=-1)
        return mask if mask.ndim != 3 else mask[None]  # three dimensions would take the slow kernel

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)  # (B, T, heads d) -> (B, heads, T, d)

    def _even_groups(self, x: Tensor) -> Tensor:
        return x if self.n_head % self.n_kv_head == 0 else self._per_query_head(x)

    def _per_query_head(self, x: Tensor) -> Tensor:
        if self.n_kv_head == self.n_head:
            return x
        return x[:, torch.arange(self.n_head, device=x.device) * self.n_kv_head // self.n_head]

    def hardware_form(self, work: Work) -> dict[str, int]:
        """Torch scales every score; the scale is folded into the query's matrix."""
        return {"mul": work.batch * self.n_head * self._pairs(work)}

    def cost(self, work: Work) -> Cost:
        heads, width, kv_width = work.batch * self.n_head, self.head_dim, 2 * self.n_kv_head * self.head_dim
        keys, pairs = self._keys(work), self._pairs(work)
        scores = work.over(heads * work.tokens, heads * pairs)
        sink = work.dense and self._takes_fused and self.softmax.sink() is not None
        keys, pairs = keys + sink, pairs + sink * work.tokens  # torch multiplies that key's zeros
        useful = heads * pairs * width
        cached = work.cache_bits if work.context > work.tokens else None
        products = (
            Matmul(work.tokens, width, keys, heads, useful, weight_format=None, right_bits=cached),  # q k^T
            Matmul(work.tokens, keys, width, heads, useful, weight_format=None, right_bits=cached),  # weights v
        )
        parts = {name: getattr(self, name).cost(work) for name in ("q", "k", "v", "o")}
        for name, heads_normed in (("q_norm", self.n_head), ("k_norm", self.n_kv_head)):
            rows = work.all_tokens * (1 if self.normed_together else heads_normed)
            if getattr(self, name) is not None:
                parts[name] = getattr(self, name).cost(work.over(rows, work.all_tokens * heads_normed * width))
        if self.position is not None:
            turned = work.all_tokens * (self.n_head + self.n_kv_head)
            parts["position"] = self.position.cost(work.over(turned, scores.elements))
        parts["softmax"] = self.softmax.cost(scores)
        kept = work.context if self.window is None else min(work.context, self.window)
        state = work.batch * kv_width * work.cache_bits
        return Cost(
            matmuls=products,
            ops={} if self.softcap is None else {"mul": 2 * scores.elements, "tanh": scores.elements},
            state_bits=state * kept,
            state_read_bits=state * kept if work.context > work.tokens else 0,
            state_written_bits=state * work.tokens,
            activations=work.all_tokens * (2 * self.n_head * width + kv_width),
            parts=parts,
        )

    def _keys(self, work: Work) -> int:
        """Keys that a product runs over: a cache offers no more than the window."""
        if self.window is None or work.context == work.tokens:
            return work.context
        return min(work.context, self.window + work.tokens - 1)

    def _pairs(self, work: Work) -> int:
        """(query, key) pairs of one sequence."""
        return work.tokens * self._keys(work) if work.dense else work.pairs(self.window)
