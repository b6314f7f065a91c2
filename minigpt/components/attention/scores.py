"""Softmax attention from queries, keys and values on: the one home of scores, masks, the two paths and their cost."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minigpt.components.attention.base import Attention
from minigpt.components.base import BuildContext
from minigpt.components.call import Call, Span
from minigpt.components.initialiser import Initialiser
from minigpt.components.quantiser.base import ROUNDED as ROUNDED
from minigpt.components.quantiser.base import attention_quantiser_costs, quantiser_costs
from minigpt.cost import Cost, Matmul, Work, without_params
from minigpt.errors import UserError


class SoftmaxAttention(Attention):
    """An attention that weighs values by softmax(scale q k^T + position bias + mask), in one of two paths.

    ``fused``: PyTorch's scaled_dot_product_attention, which never stores the scores; taken whenever nothing forbids it.
    ``explicit``: score by score, for what that kernel does not know; equal to the first where both can run.
    FlexAttention would take a softcap too, but its backward does not exist on the CPU, so it is not among them.

    A subclass makes q (B, H, T, w), k (B, n_kv_head, S, w) and v (B, n_kv_head, S, w_v), calls :meth:`build_scores` in
    ``__init__`` and :meth:`attend` in ``forward``, and prices with :meth:`products`, :meth:`score_ops` and
    :meth:`score_parts`.
    """

    uses = frozenset({"softmax", "linear", "position", "quantiser"})
    places = frozenset({"rotary", "score"})
    window: int | None = None
    softcap: float | None = None
    sinks: nn.Parameter | None
    softmax: Any
    value_mix: Any

    def build_scores(
        self,
        ctx: BuildContext,
        *,
        scale: float,
        dropout: float | None = None,
        width: int | None = None,
        sinks: bool = False,
        rounds: Sequence[str] = (),
        softmax: bool = True,
    ) -> None:
        """The softmax and the position encoding of the block, and the quantisers.

        scale: of the scores. dropout: of the weights; None is model.dropout. width: of the queries and keys that are
        turned; None is head_dim. sinks: whether every head learns the score of a key without value. rounds: sites of
        quantisers that the subclass calls itself; probabilities are rounded here. softmax: False where the attention
        has :meth:`weights` of its own.
        """
        self.n_head, self.d_model, self.scale = ctx.n_head, ctx.d_model, scale
        self.dropout = ctx.dropout if dropout is None else dropout
        self.softmax = ctx.build("softmax") if softmax else None
        self.quantise = ctx.quantisers("probabilities", *rounds)
        if sinks:
            self._refuse_idle_sinks()
        self.register_parameter("sinks", nn.Parameter(torch.empty(ctx.n_head)) if sinks else None)
        self.position = self.build_position(ctx, width)

    def init_parameters(self, init: Initialiser) -> None:
        if self.sinks is not None:
            init.constant(self.sinks, 0.0, "scalar")

    def _refuse_idle_sinks(self) -> None:
        """Raise UserError where a softmax gives each key its weight without looking at the others."""
        if not self.softmax.normalised:
            raise UserError(
                f"attention.sinks: softmax={self.softmax.name} shares no sum among the keys of a row, of which a sink "
                f"could take its part. Choose softmax=softmax, or attention.sinks=false"
            )

    @property
    def obstacle(self) -> str | None:
        """The option that the fused kernel does not know; None when there is none."""
        if not self.softmax.fused:
            return f"softmax={self.softmax.name}"
        if self.biased and self.position.reads_scores:
            return f"position={self.position.name}"
        if self.quantise["probabilities"].bits is not None:
            return f"quantiser={self.quantise['probabilities'].name} of probabilities"
        return None if self.softcap is None else "softcap"

    @property
    def path(self) -> str:
        return "fused" if self.obstacle is None else f"explicit, for its {self.obstacle}"

    @property
    def biased(self) -> bool:
        """Whether the position encoding adds to the scores."""
        return self.position is not None and "score" in self.position.serves

    def turn(self, q: Tensor, k: Tensor, call: Call) -> tuple[Tensor, Tensor]:
        """Queries and keys of this call's tokens, turned by their positions where the encoding does that."""
        if self.position is None or "rotary" not in self.position.serves:
            return q, k
        return self.position.rotate(q, call, "query"), self.position.rotate(k, call, "key")

    def attend(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        span: Span,
        key_index: Tensor | None = None,
        asked: Tensor | None = None,
    ) -> Tensor:
        """What each query finds among the values: (B, H, T, w_v).

        key_index: (S,) index of each key, None when the keys are this call's tokens. asked: the queries as a position
        encoding reads them, where q holds them in another form.
        """
        run = self.attend_fused if self.obstacle is None else self.attend_explicitly
        return run(q, k.to(q.dtype), v.to(q.dtype), span, key_index, asked)

    def attend_fused(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        span: Span,
        key_index: Tensor | None = None,
        asked: Tensor | None = None,
    ) -> Tensor:
        """PyTorch's fused kernel: scores are never stored. It wants keys and values of one width."""
        n_head, found = q.shape[1], v.shape[-1]
        if n_head % k.shape[1]:  # uneven groups
            k, v = per_query_head(k, n_head), per_query_head(v, n_head)
        mask, is_causal = self._mask(q if asked is None else asked, k, span, key_index)
        sink = self._sink()
        if sink is not None:
            q, k, v = self._with_sink(q, k, v, sink)
            mask, is_causal = self._seen_sink(mask, is_causal, span), False
        q, k, v = (_as_wide(x, max(q.shape[-1], v.shape[-1])) for x in (q, k, v))
        y = F.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=mask,
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=is_causal,
            enable_gqa=k.shape[1] != n_head,
            scale=self.scale,
        )
        return y if y.shape[-1] == found else y[..., :found]

    def attend_explicitly(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        span: Span,
        key_index: Tensor | None = None,
        asked: Tensor | None = None,
    ) -> Tensor:
        """Score by score, for every softmax and option the fused kernel does not know."""
        n_head = q.shape[1]
        k, v = per_query_head(k, n_head), per_query_head(v, n_head)  # (B, H, S, w)
        scores = (q * self.scale) @ k.transpose(-2, -1)  # (B, H, T, S)
        if self.softcap is not None:
            scores = self.softcap * torch.tanh(scores / self.softcap)
        index = span.index if key_index is None else key_index
        scores = scores.masked_fill(~span.visible(index, self.window), -math.inf)
        if self.biased:
            scores = scores + self._bias(q if asked is None else asked, span, index, scores)
        return F.dropout(self.weights(scores), self.dropout, self.training).to(v.dtype) @ v  # (B, H, T, w_v)

    def weights(self, scores: Tensor) -> Tensor:
        """(B, H, T, S), -inf where masked -> the weights, rounded; a sink takes part in the softmax and is then left
        out."""
        if self.sinks is None:
            return self.quantise["probabilities"](self.softmax(scores))
        sink = self.sinks.to(scores.dtype)[:, None, None].expand(*scores.shape[:-1], 1)
        return self.quantise["probabilities"](self.softmax(torch.cat([scores, sink], dim=-1))[..., :-1])

    def _bias(self, q: Tensor, span: Span, key_index: Tensor, scores: Tensor | None = None) -> Tensor:
        """(H, T, S) or (B, H, T, S)."""
        places = (span.positions, span.positions_at(key_index))
        if self.position.reads_scores:
            return self.position.score_bias(q, *places, scores)
        return self.position.score_bias(q, *places)

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
        mask = self._bias(q, span, index).to(q.dtype).masked_fill(~visible, -math.inf)
        return mask if mask.ndim == 4 else mask[None], False  # SDPA's fused kernel takes no mask of three dimensions

    def _sink(self) -> Tensor | None:
        """The score of one more key of no value, (1,) or (H, 1, 1), that the fused kernel is given."""
        return self.softmax.sink() if self.sinks is None else self.sinks[:, None, None]

    def _with_sink(self, q: Tensor, k: Tensor, v: Tensor, sink: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Keys and values with that key at their end, of value zero.

        Its score is a channel of its own in every query, which the other keys have at zero: a mask that carries it
        would need a gradient where it is learned, which sends SDPA to its slow kernel.
        """
        score = (sink / self.scale).to(q.dtype).expand(*q.shape[:-1], 1)
        only = F.pad(k.new_ones(*k.shape[:2], 1, 1), (k.shape[-1], 0))  # (B, n_kv_head, 1, w + 1)
        return torch.cat([q, score], dim=-1), torch.cat([F.pad(k, (0, 1)), only], dim=2), F.pad(v, (0, 0, 0, 1))

    def _seen_sink(self, mask: Tensor | None, is_causal: bool, span: Span) -> Tensor | None:
        """The mask with one key more that everyone sees; it is built where causality alone would hide that, too."""
        if mask is None:
            if not is_causal:
                return None
            mask = span.visible(span.index)
        return F.pad(mask, (0, 1), value=True if mask.dtype == torch.bool else 0.0)

    def products(self, work: Work, width: int, v_width: int) -> tuple[Matmul, Matmul]:
        """q k^T and the weighted sum of values, of H heads of these widths. A dense count is that of the path taken."""
        heads, keys, pairs = work.batch * self.n_head, self._keys(work), self._pairs(work)
        if work.dense and self.obstacle is None:
            if self._sink() is not None:
                width, keys, pairs = width + 1, keys + 1, pairs + work.tokens
            width = v_width = max(width, v_width)
        cached = work.cache_bits if work.context > work.tokens else None
        rounded = {site: quantiser.bits for site, quantiser in self.quantise.items()}
        product = functools.partial(Matmul, repeat=heads, weight_format=None, right_bits=cached)
        return (
            product(work.tokens, width, keys, useful=heads * pairs * width, left_bits=rounded.get("q")),
            product(work.tokens, keys, v_width, useful=heads * pairs * v_width, left_bits=rounded["probabilities"]),
        )

    def score_ops(self, work: Work) -> dict[str, int]:
        """Operations on single scores; the scale is folded into the query's matrix, see :meth:`scaling`."""
        if self.softcap is None:
            return {}
        scores = work.batch * self.n_head * self._pairs(work)
        return {"mul": 2 * scores, "tanh": scores}

    def scaling(self, work: Work, width: int) -> dict[str, int]:
        """Torch scales the queries, of this width, in every call: for ``hardware_form``."""
        return {"mul": work.all_tokens * self.n_head * width}

    def score_parts(self, work: Work, turned: int) -> dict[str, Cost]:
        """Costs of the position encoding, of the softmax and of what rounds its weights. turned: heads of a token that
        are turned."""
        heads, pairs = work.batch * self.n_head, self._pairs(work)
        rows, sinks = heads * work.tokens, 0 if self.sinks is None else heads * work.tokens
        parts = {} if self.softmax is None else {"softmax": self.softmax.cost(work.over(rows, heads * pairs + sinks))}
        if self.position is not None:
            own = rows if self.biased else work.all_tokens * turned
            parts["position"] = self.position.cost(work.over(own, heads * pairs))
        return parts | quantiser_costs(self.quantise, work, {"probabilities": (rows, heads * pairs)})

    def value_mix_parts(self, work: Work, heads: int, width: int) -> dict[str, Cost]:
        """The cost of mixing values of this shape with those of the first layer, where that is chosen."""
        if self.value_mix is None:
            return {}
        rows = work.all_tokens * heads
        return {"value_mix": self.value_mix.cost(work.over(rows, rows * width))}

    def score_parts_again(self, work: Work) -> dict[str, Cost]:
        """The same for a second matrix of scores that every head has, whose queries and keys are turned already."""
        parts = self.score_parts(work, 0)
        if not self.biased:
            parts.pop("position", None)
        return {f"{name}_again": without_params(part) for name, part in parts.items()}

    def rounding(self, work: Work, **operands: tuple[int, int]) -> dict[str, Cost]:
        """Costs of rounding what comes in, what goes out and the operands in between, but for probabilities.

        operands: site -> heads and width of what is rounded there, a row per head.
        """
        return attention_quantiser_costs(self.quantise, work, self.d_model, **operands)

    def cache(self, work: Work, width: int) -> Cost:
        """The state of a cache of ``width`` elements a token."""
        kept = work.context if self.window is None else min(work.context, self.window)
        bits = work.batch * width * work.cache_bits
        read = bits * kept if work.context > work.tokens else 0
        return Cost(state_bits=bits * kept, state_read_bits=read, state_written_bits=bits * work.tokens)

    def _keys(self, work: Work) -> int:
        """Keys that a product runs over: a cache offers no more than the window."""
        if self.window is None or work.context == work.tokens:
            return work.context
        return min(work.context, self.window + work.tokens - 1)

    def _pairs(self, work: Work) -> int:
        """(query, key) pairs of one sequence."""
        return work.tokens * self._keys(work) if work.dense else work.pairs(self.window)


def per_query_head(x: Tensor, n_head: int) -> Tensor:
    """(B, n_kv_head, S, w) -> (B, n_head, S, w): query head h reads key head floor(h n_kv_head / n_head)."""
    n_kv_head = x.shape[1]
    if n_kv_head == n_head:
        return x
    return x[:, torch.arange(n_head, device=x.device) * n_kv_head // n_head]


def split_heads(x: Tensor, width: int) -> Tensor:
    """(B, T, heads w) -> (B, heads, T, w)."""
    return x.unflatten(-1, (-1, width)).transpose(1, 2)


def grouped(n_kv_head: int | None, ctx: BuildContext) -> int:
    """How many key heads there are; refuses more than there are query heads."""
    if n_kv_head is not None and n_kv_head > ctx.n_head:
        raise UserError(
            f"attention.n_kv_head: {n_kv_head} is more than model.n_head={ctx.n_head}. "
            f"Take at most {ctx.n_head}, or more heads"
        )
    return n_kv_head or ctx.n_head


def _as_wide(x: Tensor, width: int) -> Tensor:
    return x if x.shape[-1] == width else F.pad(x, (0, width - x.shape[-1]))
