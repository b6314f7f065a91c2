"""What linear and recurrent attentions share: their state, and the scan that adds up outer products chunk by chunk."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from minigpt.cost import Matmul, Work

STATE_BITS = 32  # of one element of a recurrent sum


class RecurrentState:
    """Tensors whose first dimension is the batch, by name. Sums over all tokens seen are at least fp32."""

    def __init__(self, **tensors: Tensor):
        self.tensors = tensors

    @property
    def bits(self) -> int:
        return 8 * sum(tensor.nbytes for tensor in self.tensors.values())

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def __setitem__(self, name: str, tensor: Tensor) -> None:
        self.tensors[name] = tensor

    def select(self, rows: Tensor) -> RecurrentState:
        """A copy with these rows, in this order; a row may come more than once."""
        return RecurrentState(**{name: tensor[rows] for name, tensor in self.tensors.items()})


@dataclasses.dataclass(frozen=True)
class Sums:
    """The state S of ``heads`` heads, (B, H, K, V), and the chunks of a call."""

    heads: int
    key_width: int
    value_width: int
    chunk: int

    @property
    def path(self) -> str:
        """How it is computed, for the table of layers."""
        return f"in chunks of {self.chunk}"

    def start(self, batch: int, device: torch.device) -> Tensor:
        """S before the first token: (B, H, K, V)."""
        return torch.zeros(batch, self.heads, self.key_width, self.value_width, device=device)

    def state_bits(self, batch: int) -> int:
        return STATE_BITS * batch * self.heads * self.key_width * self.value_width

    def _chunks(self, work: Work) -> tuple[int, int]:
        """(tokens of a chunk, chunks of a sequence)."""
        chunk = min(self.chunk, work.tokens)
        return chunk, math.ceil(work.tokens / chunk)


@dataclasses.dataclass(frozen=True)
class Scan(Sums):
    """y_t = q_t S_t of the sums S_t = a_t S_{t-1} + k_t^T v_t, for each of ``heads`` heads of a sequence.

    decay: ``none`` has a = 1; ``constant`` one a per head that no token changes; ``token`` one per head and token.
    shared_keys: all heads have the same q and k.

    Several tokens go in chunks of ``chunk``: quadratic inside one, through the sums between them. All decays are ratios
    exp(g_t - g_s), s <= t, of the running sum g of log a <= 0: none exceeds one, whatever the gates say. One token is
    a step of the recurrence. What each form costs is told beside it: :meth:`products` and :meth:`ops` count the
    recurrence, which is the form of the hardware, and the dense products those torch computes.
    """

    decay: Literal["none", "constant", "token"] = "none"
    shared_keys: bool = False

    def run(
        self, q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor | None, before: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """(y of every token, S after the last one).

        q, k: (B, H, T, K), or (B, 1, T, K) when shared. v: (B, H, T, V). log_decay: (B, H, T) or (1, H, T), at most 0.
        before: (B, H, K, V), S of the tokens before this call, or None.
        """
        if q.shape[2] == 1:
            return _step(q, k, v, log_decay, before)
        return self._in_chunks(q, k, v, log_decay, before)

    def _in_chunks(
        self, q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor | None, before: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        tokens, chunk = q.shape[2], min(self.chunk, q.shape[2])
        q, k, v = (in_chunks(each, chunk) for each in (q, k, v))  # (B, H, N, c, K) and (B, H, N, c, V)
        scores = q @ k.transpose(-2, -1)  # (B, H, N, c, c)
        if log_decay is None:
            y = scores.tril() @ v
            after = (k.transpose(-2, -1) @ v).cumsum(dim=2)  # (B, H, N, K, V): S after each chunk
            if before is not None:
                after = after + before[:, :, None]
            return joined(y + q @ entering(after, before), tokens), after[:, :, -1].clone()
        passed = in_chunks(log_decay[..., None], chunk)[..., 0].cumsum(dim=-1)  # (B, H, N, c): g within a chunk
        y = (scores * ratios(passed)) @ v
        kept = (passed[..., -1:] - passed).exp()[..., None]  # (B, H, N, c, 1): to the end of a chunk
        own = k.transpose(-2, -1) @ (v * kept)  # (B, H, N, K, V): what each chunk adds
        after = _through_chunks(own, passed[..., -1], before)
        y = y + (q @ entering(after, before)) * passed.exp()[..., None]
        return joined(y, tokens), after[:, :, -1].clone()

    def products(self, work: Work) -> tuple[Matmul, ...]:
        """Matrix products of a call: those of the recurrence, or, in a dense count, those that torch computes."""
        k, v, heads = self.key_width, self.value_width, work.batch * self.heads
        if not work.dense or work.tokens == 1:
            repeat = heads * work.tokens
            return (
                Matmul(k, 1, v, repeat, weight_format=None, result_bits=STATE_BITS),
                Matmul(1, k, v, repeat, weight_format=None, right_bits=STATE_BITS),
            )
        c, n = self._chunks(work)
        scored = work.batch * (1 if self.shared_keys else self.heads)
        products = (
            Matmul(c, k, c, scored * n, weight_format=None),
            Matmul(c, c, v, heads * n, weight_format=None),
            Matmul(k, c, v, heads * n, weight_format=None, result_bits=STATE_BITS),
            Matmul(c, k, v, heads * n, weight_format=None, right_bits=STATE_BITS),
        )
        if self.decay == "none" or n == 1:
            return products
        return (*products, Matmul(n, n, k * v, heads, weight_format=None, right_bits=STATE_BITS))

    def ops(self, work: Work) -> dict[str, int]:
        """Operations of the recurrence: S is scaled by its decay, which is an exponential when a token decides it."""
        steps = work.all_tokens * self.heads
        scaled = {} if self.decay == "none" else {"mul": steps * self.key_width * self.value_width}
        return scaled | ({"exp": steps} if self.decay == "token" else {})

    def form(self, work: Work) -> Counter[str]:
        """What the chunks need more (+) or less (-) than that: scores are scaled instead of sums, ratios of decays are
        exponentials of differences, chunks are added up, and the last one is filled with zeros."""
        found = Counter({op: -count for op, count in self.ops(work).items()})
        k, v, heads = self.key_width, self.value_width, work.batch * self.heads
        if work.tokens == 1:
            found.update(self.ops(work))
            found["add"] += heads * k * v if work.context > 1 else 0
            return found
        c, n = self._chunks(work)
        found["add"] += heads * n * c * v
        if self.decay == "none":
            found["add"] += heads * n * k * v
            return found
        found["mul"] += heads * n * (c * c + 2 * c * v)
        if self.decay == "token":
            chunks = n + n * n if n > 1 else 0
            found["add"] += heads * (n * c + n * c * c + n * c + chunks)
            found["exp"] += heads * (n * c * c + 2 * n * c + chunks - (n if n > 1 else 0))
        return found


def _step(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor | None, before: Tensor | None) -> tuple[Tensor, Tensor]:
    """One token: the recurrence as it is written."""
    after = k.transpose(-2, -1) @ v  # (B, H, K, V)
    if before is not None:
        after = after + (before if log_decay is None else before * log_decay.exp()[..., None])
    return q @ after, after


def _through_chunks(own: Tensor, passed: Tensor, before: Tensor | None) -> Tensor:
    """S after each chunk, (B, H, N, K, V), from what each adds, ``own``, and its log decay ``passed``: (B, H, N)."""
    if own.shape[2] == 1:
        return own if before is None else own + before[:, :, None] * passed.exp()[..., None, None]
    passed = passed.cumsum(dim=-1)
    after = (ratios(passed) @ own.flatten(-2)).view(own.shape)
    return after if before is None else after + before[:, :, None] * passed.exp()[..., None, None]


def entering(after: Tensor, before: Tensor | None) -> Tensor:
    """S before each chunk: (B, H, N, K, V)."""
    if before is None:
        return F.pad(after[:, :, :-1], (0, 0, 0, 0, 1, 0))
    return torch.cat([before[:, :, None].to(after.dtype), after[:, :, :-1]], dim=2)


def ratios(passed: Tensor) -> Tensor:
    """exp(g_t - g_s) where s <= t, else 0: (..., c) -> (..., c, c)."""
    apart = passed[..., :, None] - passed[..., None, :]
    future = torch.ones(apart.shape[-2:], dtype=torch.bool, device=apart.device).triu(1)
    return apart.masked_fill(future, -math.inf).exp()  # masked before: exp of a future ratio may overflow


def in_chunks(x: Tensor, chunk: int) -> Tensor:
    """(B, H, T, d) -> (B, H, N, chunk, d), the last chunk filled with zeros, which add nothing to a sum."""
    spare = -x.shape[2] % chunk
    return (F.pad(x, (0, 0, 0, spare)) if spare else x).unflatten(2, (-1, chunk))


def joined(y: Tensor, tokens: int) -> Tensor:
    """(B, H, N, c, V) -> (B, H, T, V)."""
    return y.flatten(2, 3)[:, :, :tokens]


def widened(x: Tensor) -> Tensor:
    """In fp32 at least: the sums over all tokens need its range."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def as_heads(x: Tensor, heads: int) -> Tensor:
    """(B, T, H d) -> (B, H, T, d)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)
