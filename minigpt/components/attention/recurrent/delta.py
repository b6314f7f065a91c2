"""The gated delta rule: what a key stands for is corrected, not added to."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minigpt.components.attention.recurrent.conv import ShortConv
from minigpt.components.attention.recurrent.gated import GatedAttention, before_this, init_rates
from minigpt.components.attention.recurrent.scan import (
    STATE_BITS,
    RecurrentState,
    Sums,
    as_heads,
    in_chunks,
    joined,
    ratios,
    widened,
)
from minigpt.components.base import BuildContext, full_precision
from minigpt.components.call import Call
from minigpt.components.initialiser import Initialiser
from minigpt.cost import Cost, Matmul, Work
from minigpt.registry import register
from minigpt.schema import PositiveInt, options


@dataclasses.dataclass(frozen=True)
class DeltaScan(Sums):
    """y_t = q_t S_t, S_t = a_t S_{t-1} + k_t^T b_t (v_t - k_t a_t S_{t-1}): what k_t finds is moved towards v_t.

    Within a chunk, the corrections u of all tokens solve one triangular system, (1 + L) u = b (v - a.. k S) with
    L_ts = b_t (k_t . k_s) a_t..a_(s+1) for s < t (Yang et al. 2024, arXiv:2406.06484); S goes from chunk to chunk in a
    loop, as each correction needs the S before it. decay: without it, a = 1.
    """

    decay: bool = True

    def run(
        self, q: Tensor, k: Tensor, v: Tensor, beta: Tensor, log_decay: Tensor | None, before: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """(y of every token, S after the last). q, k: (B, H, T, K). v: (B, H, T, V). beta, log_decay: (B, H, T).
        before: (B, H, K, V)."""
        sums = q.new_zeros(*k.shape[:2], k.shape[3], v.shape[3]) if before is None else before.to(q.dtype)
        if q.shape[2] == 1:
            return _step(q, k, v, beta, log_decay, sums)
        tokens, chunk = q.shape[2], min(self.chunk, q.shape[2])
        q, k, v, kb = (in_chunks(each, chunk) for each in (q, k, v, k * beta[..., None]))  # (B, H, N, c, K)
        vb = v * in_chunks(beta[..., None], chunk)
        scores, overlap = q @ k.transpose(-2, -1), kb @ k.transpose(-2, -1)  # (B, H, N, c, c)
        if log_decay is None:
            scores, whole = scores.tril(), None
        else:
            passed = in_chunks(log_decay[..., None], chunk)[..., 0].cumsum(dim=-1)  # (B, H, N, c)
            apart, since = ratios(passed), passed.exp()[..., None]
            scores, overlap = scores * apart, overlap * apart
            q, kb = q * since, kb * since
            k = k * (passed[..., -1:] - passed).exp()[..., None]
            whole = passed[..., -1].exp()[..., None, None]  # (B, H, N, 1, 1)
        solved = torch.linalg.solve_triangular(overlap, torch.cat([vb, kb], -1), upper=False, unitriangular=True)
        wanted, found = solved.split((v.shape[-1], k.shape[-1]), dim=-1)  # u = wanted - found S
        entering, moved = [], []
        for n in range(q.shape[2]):
            entering.append(sums)
            moved.append(wanted[:, :, n] - found[:, :, n] @ sums)
            kept = sums if whole is None else sums * whole[:, :, n]
            sums = kept + k[:, :, n].transpose(-2, -1) @ moved[-1]
        y = q @ torch.stack(entering, dim=2) + scores @ torch.stack(moved, dim=2)
        return joined(y, tokens), sums

    def products(self, work: Work) -> tuple[Matmul, ...]:
        """Of the recurrence, or, in a dense count, of the chunks; solving is no product, see :meth:`form`."""
        k, v, heads = self.key_width, self.value_width, work.batch * self.heads
        if not work.dense or work.tokens == 1:
            repeat = heads * work.tokens
            return (
                Matmul(1, k, v, repeat, weight_format=None, right_bits=STATE_BITS),
                Matmul(k, 1, v, repeat, weight_format=None, result_bits=STATE_BITS),
                Matmul(1, k, v, repeat, weight_format=None, right_bits=STATE_BITS),
            )
        c, n = self._chunks(work)
        return (
            Matmul(c, k, c, 2 * heads * n, weight_format=None),
            Matmul(c, k, v, 2 * heads * n, weight_format=None, right_bits=STATE_BITS),
            Matmul(k, c, v, heads * n, weight_format=None, result_bits=STATE_BITS),
            Matmul(c, c, v, heads * n, weight_format=None),
        )

    def ops(self, work: Work) -> dict[str, int]:
        """Of the recurrence: the correction is a difference, scaled; S is scaled by its decay, an exponential."""
        steps = work.all_tokens * self.heads
        size = self.key_width * self.value_width if self.decay else 0
        found = {"sub": steps * self.value_width, "mul": steps * (self.value_width + size)}
        return found | ({"exp": steps} if self.decay else {})

    def form(self, work: Work) -> Counter[str]:
        """What the chunks need more (+) or less (-): a triangular system is solved, keys and values are scaled instead
        of corrections, scores instead of sums, and the last chunk is filled with zeros."""
        ops = self.ops(work)
        k, v, heads = self.key_width, self.value_width, work.batch * self.heads
        found = Counter({"add": -ops["sub"], "mul": -ops["mul"], "exp": -ops.get("exp", 0)})
        if work.tokens == 1:
            found.update({"add": ops["sub"] + heads * k * v, "mul": ops["mul"], "exp": ops.get("exp", 0)})
            return found
        c, n = self._chunks(work)
        solving = n * (k + v) * (c * (c - 1) // 2)
        found["mul"] += heads * (work.tokens * k + n * c * v + solving)
        found["add"] += heads * (solving + n * (2 * c * v + k * v))
        if self.decay:
            found["add"] += heads * n * (c + c * c + c)
            found["exp"] += heads * n * (c * c + 2 * c + 1)
            found["mul"] += heads * n * (2 * c * c + 3 * c * k + k * v)
        return found


def _step(
    q: Tensor, k: Tensor, v: Tensor, beta: Tensor, log_decay: Tensor | None, sums: Tensor
) -> tuple[Tensor, Tensor]:
    """One token: the recurrence as it is written."""
    if log_decay is not None:
        sums = sums * log_decay.exp()[..., None]
    sums = sums + k.transpose(-2, -1) @ ((v - k @ sums) * beta[..., None])
    return q @ sums, sums


@register("attention", "delta")
class GatedDelta(GatedAttention):
    """S_t = a_t (1 - b_t k_t^T k_t) S_{t-1} + b_t k_t^T v_t, o_t = q_t S_t / sqrt(d), y = W_o (norm(o) * act(W_g x)).

    Yang et al. 2024 (Gated DeltaNet), arXiv:2412.06464: q, k, v = act(conv(W x)), a causal convolution over ``conv``
    tokens, channel by channel; q and k of length one; b = sigmoid(W_b x); a = exp(-A softplus(W_a x + c)), A > 0 and c
    of each head. ``decay=false`` has a = 1: DeltaNet, arXiv:2406.06484. With activation=silu and position=nope it is
    theirs; a rotary position turns q and k.

    Computed in chunks of ``chunk`` tokens; the state, one d x d matrix per head and the last conv - 1 tokens, does not
    grow with the context.

    x (B, T, C) -> q, k, v, o (B, H, T, d), a, b (B, H, T) -> (B, T, C). Learns q, k, v, g: (H d, C), o: (C, H d), W_a,
    W_b as decay, beta: (H, C), the convolution: (3 H d, conv), log A and c: (H,), the norm's gain.
    """

    @options
    class Config:
        decay: bool = True
        conv: PositiveInt = 4
        chunk: PositiveInt = 64

    cases = [{"decay": False, "chunk": 5}, {"conv": 2, "chunk": 7, "with": {"position": "nope"}}]
    changes = {"chunk": "work"}

    def __init__(self, config: Config, ctx: BuildContext):
        super().__init__(ctx)
        channels = 3 * ctx.n_head * ctx.head_dim
        self.scan = DeltaScan(ctx.n_head, ctx.head_dim, ctx.head_dim, config.chunk, config.decay)
        self.conv = ShortConv(channels, config.conv, bias=False)
        self.conv_activation = ctx.activation(channels, site="conv")
        self.beta = ctx.linear(ctx.d_model, ctx.n_head, site="beta")
        self.decay = ctx.linear(ctx.d_model, ctx.n_head, site="decay", bias=False) if config.decay else None
        self.log_rate = nn.Parameter(torch.empty(ctx.n_head)) if config.decay else None
        self.step_bias = nn.Parameter(torch.empty(ctx.n_head)) if config.decay else None

    def init_parameters(self, init: Initialiser) -> None:
        if self.log_rate is not None and self.step_bias is not None:
            init_rates(init, self.log_rate, self.step_bias)

    def new_state(self, batch: int, capacity: int, device: torch.device, dtype: torch.dtype) -> RecurrentState:
        return RecurrentState(sums=self.scan.start(batch, device), conv=self.conv.start(batch, device, dtype))

    def forward(self, x: Tensor, call: Call, state: RecurrentState | None = None) -> Tensor:
        x = self.quantise["attention_input"](x)
        mixed = torch.cat([self.q(x), self.k(x), self.v(x)], dim=-1)  # (B, T, 3 H d)
        mixed = self.conv_activation(self.conv(mixed, call, state))
        q, k, v = (widened(as_heads(each, self.n_head)) for each in mixed.chunk(3, dim=-1))
        beta, log_decay = widened(self.beta(x)).sigmoid().transpose(1, 2), self._log_decay(x)  # (B, H, T)
        with full_precision(x.device):
            q, k = (each * (each.square().sum(-1, keepdim=True) + 1e-6).rsqrt() for each in self._turned(q, k, call))
            q, k, v = self._rounded(q / math.sqrt(self.head_dim), k, v)
            found, sums = self.scan.run(q, k, v, beta, log_decay, before_this(state))
        if state is not None:
            state["sums"] = sums
        return self._read_out(found, x)

    def _log_decay(self, x: Tensor) -> Tensor | None:
        """(B, H, T), at most 0; None without a decay."""
        if self.decay is None or self.log_rate is None or self.step_bias is None:
            return None
        return (F.softplus(widened(self.decay(x)) + self.step_bias) * -self.log_rate.exp()).transpose(1, 2)

    def hardware_form(self, work: Work) -> dict[str, int]:
        """Torch scales every query once more, has the sigmoid, and log(1 + x), as one operation, and leaves the latter
        out for large x; it goes in chunks, see the scan's form."""
        steps = work.all_tokens * self.n_head
        found = self.scan.form(work)
        found.update({"mul": steps * self.head_dim, "sigmoid": steps, "exp": -steps, "add": -steps, "recip": -steps})
        if self.decay is not None:
            found.update({"add": -steps, "cmp": steps, "select": steps})
        return dict(found)

    def cost(self, work: Work) -> Cost:
        cost = super().cost(work)
        steps, n = work.all_tokens * self.n_head, work.all_tokens * self.n_head * self.head_dim
        ops = Counter(cost.ops)
        ops.update({"mul": 4 * n, "add": 2 * n + 2 * steps, "rsqrt": 2 * steps})  # q and k of length one
        ops.update({"exp": steps, "add": steps, "recip": steps})  # sigmoid
        parts = {"beta": self.beta.cost(self._fed(work)), "conv": self.conv.cost(work)}
        parts["conv_activation"] = self.conv_activation.cost(work.over(work.all_tokens, 3 * n))
        if self.decay is not None:
            parts["decay"] = self.decay.cost(self._fed(work))
            ops.update({"add": 2 * steps, "exp": steps, "log": steps, "mul": steps})  # bias, softplus, rate
        gates = steps if self.decay is None else 2 * steps
        return dataclasses.replace(
            cost, ops=ops, activations=cost.activations + gates + 3 * n, parts={**cost.parts, **parts}
        )
