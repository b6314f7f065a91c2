"""Gated linear attention: every channel of the keys forgets at a rate that the token decides."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from typing import Annotated

import torch.nn.functional as F
from torch import Tensor

from minigpt.components.attention.recurrent.gated import GatedAttention, before_this
from minigpt.components.attention.recurrent.scan import (
    STATE_BITS,
    RecurrentState,
    Sums,
    as_heads,
    entering,
    in_chunks,
    joined,
    ratios,
    widened,
)
from minigpt.components.base import BuildContext, full_precision
from minigpt.components.call import Call
from minigpt.cost import Cost, Matmul, Work
from minigpt.registry import register
from minigpt.schema import PositiveFloat, PositiveInt, Range, options

LEAST_LOG_DECAY = -2.0  # over a chunk of 32 exp(32 * 2) at most, far within fp32


@dataclasses.dataclass(frozen=True)
class ChannelScan(Sums):
    """y_t = q_t S_t of the sums S_t = diag(a_t) S_{t-1} + k_t^T v_t, a_t: (K,) of every head and token.

    Inside a chunk, scores are (q exp(g)) (k exp(-g))^T with the running sum g of log a. exp(-g) would overflow without
    the bounds above: log a is at least LEAST_LOG_DECAY, a chunk at most 32 tokens. (Counting g from the
    middle of a chunk would allow longer ones, and let the future show in the last digits of the past.)
    """

    def run(self, q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, before: Tensor | None) -> tuple[Tensor, Tensor]:
        """(y of every token, S after the last). q, k, log_decay: (B, H, T, K). v: (B, H, T, V). before: S so far."""
        tokens = q.shape[2]
        if tokens == 1:
            after = k.transpose(-2, -1) @ v
            if before is not None:
                after = after + before * log_decay.exp().transpose(-2, -1)
            return q @ after, after
        q, k, v, log_decay = (in_chunks(each, min(self.chunk, tokens)) for each in (q, k, v, log_decay))
        passed = log_decay.cumsum(dim=3)  # (B, H, N, c, K): g within a chunk
        whole = passed[:, :, :, -1]  # (B, H, N, K)
        q, k = q * passed.exp(), k * (-passed).exp()
        y = (q @ k.transpose(-2, -1)).tril() @ v
        own = (k.transpose(-2, -1) * whole.exp()[..., None]) @ v  # each chunk's own (B, H, N, K, V)
        after = _through_chunks(own, whole, before)
        return joined(y + q @ entering(after, before), tokens), after[:, :, -1].clone()

    def products(self, work: Work) -> tuple[Matmul, ...]:
        """Of the recurrence, or, in a dense count, of the chunks."""
        k, v, heads = self.key_width, self.value_width, work.batch * self.heads
        if not work.dense or work.tokens == 1:
            repeat = heads * work.tokens
            return (
                Matmul(k, 1, v, repeat, weight_format=None, result_bits=STATE_BITS),
                Matmul(1, k, v, repeat, weight_format=None, right_bits=STATE_BITS),
            )
        c, n = self._chunks(work)
        products = (
            Matmul(c, k, c, heads * n, weight_format=None),
            Matmul(c, c, v, heads * n, weight_format=None),
            Matmul(k, c, v, heads * n, weight_format=None, result_bits=STATE_BITS),
            Matmul(c, k, v, heads * n, weight_format=None, right_bits=STATE_BITS),
        )
        between = (Matmul(n, n, v, heads * k, weight_format=None, right_bits=STATE_BITS),) if n > 1 else ()
        return products + between

    def ops(self, work: Work) -> dict[str, int]:
        """Of the recurrence: a is an exponential per channel, and scales a row of S."""
        channels = work.all_tokens * self.heads * self.key_width
        return {"exp": channels, "mul": channels * self.value_width}

    def form(self, work: Work) -> Counter[str]:
        """What the chunks need more (+) or less (-): they scale queries and keys instead of S, sum up decays, and the
        last one is filled with zeros."""
        found = Counter({op: -count for op, count in self.ops(work).items()})
        k, v, heads = self.key_width, self.value_width, work.batch * self.heads
        if work.tokens == 1:
            found.update(self.ops(work))
            found["add"] += heads * k * v
            return found
        c, n = self._chunks(work)
        between = heads * k * n * n if n > 1 else 0
        found["add"] += heads * n * c * (k + v) + between + (heads * k * n if n > 1 else 0)
        found["neg"] += heads * n * c * k
        found["exp"] += heads * n * k * (2 * c + 1) + between
        found["mul"] += heads * n * 3 * c * k
        return found


def _through_chunks(own: Tensor, whole: Tensor, before: Tensor | None) -> Tensor:
    """S after each chunk, (B, H, N, K, V), from what each adds and its log decay: (B, H, N, K)."""
    if own.shape[2] > 1:
        whole = whole.cumsum(dim=2)
        own = (ratios(whole.transpose(-2, -1)) @ own.transpose(2, 3)).transpose(2, 3)  # channel by channel
    return own if before is None else own + before[:, :, None] * whole.exp()[..., None]


@register("attention", "gated_linear")
class GatedLinearAttention(GatedAttention):
    """S_t = diag(a_t) S_{t-1} + k_t^T v_t, o_t = q_t S_t / sqrt(d), y = W_o (norm(o) * act(W_g x)).

    Yang et al. 2023, arXiv:2312.06635: a_t = sigmoid(W_2 W_1 x_t + b)^(1/temperature), one per channel of the keys;
    here at least e^-2, so that a chunk stays within fp32, which at the default temperature no gate above -32 notices.
    With position=nope it is theirs; a rotary position turns q and k.

    gate_rank: width between W_1 and W_2. Computed in chunks of ``chunk`` tokens, at most 32; the state, one d x d
    matrix per head, does not grow with the context.

    x (B, T, C) -> q, k, v, a, o (B, H, T, d) -> (B, T, C). Learns q, k, v, g: (H d, C), o: (C, H d), W_1 as decay_down:
    (gate_rank, C), W_2 and b as decay_up: (H d, gate_rank) and (H d,), the norm's gain.
    """

    @options
    class Config:
        gate_rank: PositiveInt = 16
        temperature: PositiveFloat = 16.0
        chunk: Annotated[int, Range(ge=1, le=32)] = 32  # see ChannelScan

    cases = [{"gate_rank": 4, "chunk": 5}, {"temperature": 0.5, "with": {"position": "nope"}}]
    changes = {"chunk": "work"}

    def __init__(self, config: Config, ctx: BuildContext):
        super().__init__(ctx)
        self.temperature = config.temperature
        self.scan = ChannelScan(ctx.n_head, ctx.head_dim, ctx.head_dim, config.chunk)
        self.decay_down = ctx.linear(ctx.d_model, config.gate_rank, site="decay", bias=False)
        self.decay_up = ctx.linear(config.gate_rank, ctx.n_head * ctx.head_dim, site="decay", bias=True)

    def forward(self, x: Tensor, call: Call, state: RecurrentState | None = None) -> Tensor:
        x = self.quantise["attention_input"](x)
        q, k, v = self._projected(x, call)
        gates = widened(as_heads(self.decay_up(self.decay_down(x)), self.n_head))  # (B, H, T, d)
        with full_precision(x.device):
            log_decay = (F.softplus(-gates) * (-1 / self.temperature)).clamp_min(LEAST_LOG_DECAY)
            found, sums = self.scan.run(q / math.sqrt(self.head_dim), k, v, log_decay, before_this(state))
        if state is not None:
            state["sums"] = sums
        return self._read_out(found, x)

    def hardware_form(self, work: Work) -> dict[str, int]:
        """Torch scales every query, the hardware their matrix; it has log(1 + x) as one operation and leaves it out for
        large x; and it goes in chunks, see the scan's form."""
        n = work.all_tokens * self.n_head * self.head_dim
        found = self.scan.form(work)
        found.update({"mul": n, "add": -n, "cmp": n, "select": n})
        return dict(found)

    def cost(self, work: Work) -> Cost:
        cost = super().cost(work)
        n = work.all_tokens * self.n_head * self.head_dim
        ops = Counter(cost.ops)
        ops.update({"neg": n, "exp": n, "add": n, "log": n, "mul": n, "cmp": n})  # sigmoid, log, 1/temperature, bound
        parts = {"decay_down": self.decay_down.cost(self._fed(work)), "decay_up": self.decay_up.cost(work)}
        return dataclasses.replace(cost, ops=ops, activations=cost.activations + n, parts={**cost.parts, **parts})
