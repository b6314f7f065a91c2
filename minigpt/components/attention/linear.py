"""Linear attention: a running sum of k v^T in place of a cache that grows."""

from __future__ import annotations

import copy
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from minigpt.components.attention.base import Attention
from minigpt.components.base import BuildContext, full_precision
from minigpt.components.call import Call
from minigpt.cost import Cost, Matmul, Work
from minigpt.registry import register
from minigpt.schema import PositiveInt, options

STATE_BITS = 32  # of one element of the sums


class LinearState:
    """Sums over all tokens seen: kv (B, H, d, d) of phi(k) v^T and k (B, H, 1, d) of phi(k), in fp32."""

    def __init__(self, batch: int, n_head: int, width: int, device: torch.device):
        self.kv = torch.zeros(batch, n_head, width, width, device=device)
        self.k = torch.zeros(batch, n_head, 1, width, device=device)

    @property
    def bits(self) -> int:
        return 8 * (self.kv.nbytes + self.k.nbytes)

    def select(self, rows: Tensor) -> LinearState:
        """A copy with these rows, in this order; a row may come more than once."""
        chosen = copy.copy(self)
        chosen.kv, chosen.k = self.kv[rows], self.k[rows]
        return chosen


@register("attention", "linear")
class LinearAttention(Attention):
    """y_t = phi(q_t) S_t / (phi(q_t) z_t), S_t = sum phi(k_s) v_s^T, z_t = sum phi(k_s) over s <= t, phi = elu + 1.

    Katharopoulos et al. 2020, arXiv:2006.16236. The state does not grow with the context. With position=rope the
    queries and keys of the numerator are turned, those of the denominator are not (Su et al. 2021, section 3.3), so it
    stays positive.

    Computed in chunks: quadratic inside a chunk of ``chunk`` tokens, through the sums between chunks. The cost in
    hardware is the recurrent form's; a dense count gives what the chunks compute.

    x (B, T, C) -> q, k, v (B, H, T, d) -> in chunks (B, H, N, c, d) -> y (B, H, T, d) -> (B, T, C)
    """

    uses = frozenset({"linear", "position"})
    places = frozenset({"rotary"})

    @options
    class Config:
        chunk: PositiveInt = 64

    cases = [{"chunk": 5}, {"chunk": 3, "with": {"position": "nope"}}]
    changes = {"chunk": "work"}  # the order of the sums, not what they come to

    def __init__(self, config: Config, ctx: BuildContext):
        super().__init__()
        self.n_head, self.head_dim, self.chunk = ctx.n_head, ctx.head_dim, config.chunk
        inner = ctx.n_head * ctx.head_dim
        self.q = ctx.linear(ctx.d_model, inner, site="q")
        self.k = ctx.linear(ctx.d_model, inner, site="k")
        self.v = ctx.linear(ctx.d_model, inner, site="v")
        self.o = ctx.linear(inner, ctx.d_model, site="o", role="residual_out")
        self.position = self.build_position(ctx)

    @property
    def path(self) -> str:
        return f"in chunks of {self.chunk}"

    def new_state(self, batch: int, capacity: int, device: torch.device, dtype: torch.dtype) -> LinearState:
        return LinearState(batch, self.n_head, self.head_dim, device)

    def forward(self, x: Tensor, call: Call, state: LinearState | None = None) -> Tensor:
        q, k, v = (_widened(self._heads(linear(x))) for linear in (self.q, self.k, self.v))
        with full_precision(x.device):
            y = self._attend(q, k, v, call, state)
        return self.o(y.to(x.dtype).transpose(1, 2).flatten(2))

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, call: Call, state: LinearState | None) -> Tensor:
        """(B, H, T, d) each, at least fp32 -> (B, H, T, d)."""
        q, k = F.elu(q) + 1, F.elu(k) + 1  # positive
        if call.span.real is not None:
            k = k * call.span.real[:, None, :, None]
        seen = k.cumsum(dim=2)  # (B, H, T, d): z_t
        if state is not None:
            seen = seen + state.k
            state.k = seen[:, :, -1:].clone()  # a view would keep all of seen alive
        normaliser = (q * seen).sum(dim=-1, keepdim=True).clamp_min(1e-6)  # (B, H, T, 1)
        if self.position is not None:
            q, k = self.position.rotate(q, call, "query"), self.position.rotate(k, call, "key")
        return self._numerator(q, k, v, state) / normaliser

    def _numerator(self, q: Tensor, k: Tensor, v: Tensor, state: LinearState | None) -> Tensor:
        """sum over s <= t of (q_t . k_s) v_s: (B, H, T, d)."""
        tokens = q.shape[2]
        chunk = min(self.chunk, tokens)
        spare = -tokens % chunk  # zero keys and values change no sum
        q, k, v = (F.pad(each, (0, 0, 0, spare)).unflatten(2, (-1, chunk)) for each in (q, k, v))  # (B, H, N, c, d)
        within = (q @ k.transpose(-2, -1)).tril() @ v  # (B, H, N, c, d)
        sums = k.transpose(-2, -1) @ v  # (B, H, N, d, d): each chunk's own
        through = sums.cumsum(dim=2)
        before = F.pad(through[:, :, :-1], (0, 0, 0, 0, 1, 0))  # of the chunks before this one
        if state is not None:
            before = before + state.kv[:, :, None]
            state.kv = state.kv + through[:, :, -1]
        y = within + q @ before
        return y.flatten(2, 3)[:, :, :tokens]

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.n_head, self.head_dim)).transpose(1, 2)  # (B, T, H d) -> (B, H, T, d)

    def hardware_form(self, work: Work) -> dict[str, int]:
        """Torch chooses between the two sides of elu and scales each, divides every element instead of taking one
        reciprocal per row, guards the denominator, and adds up chunks, of which the last is filled with zeros."""
        d, heads = self.head_dim, work.batch * self.n_head
        chunk = min(self.chunk, work.tokens)
        chunks, rows = heads * math.ceil(work.tokens / chunk), heads * work.tokens
        added = chunks * (chunk * d + d * d)
        return {"select": 2 * rows * d, "mul": 6 * rows * d, "cmp": rows, "recip": -rows, "add": added}

    def cost(self, work: Work) -> Cost:
        d, heads = self.head_dim, work.batch * self.n_head
        n = work.all_tokens * self.n_head * d
        state_bits = STATE_BITS * heads * (d * d + d)
        parts = {name: getattr(self, name).cost(work) for name in ("q", "k", "v", "o")}
        if self.position is not None:
            parts["position"] = self.position.cost(work.over(2 * work.all_tokens * self.n_head, 0))
        return Cost(
            matmuls=self._products(work),
            # phi of q and k: exp, compare, add; z: add; normaliser: multiply and add; quotient: one reciprocal per row
            ops={"exp": 2 * n, "cmp": 2 * n, "add": 4 * n, "mul": 2 * n, "recip": n // d},
            state_bits=state_bits,
            state_read_bits=state_bits if work.context > work.tokens else 0,
            state_written_bits=state_bits,
            activations=4 * n,
            parts=parts,
        )

    def _products(self, work: Work) -> tuple[Matmul, ...]:
        d, heads = self.head_dim, work.batch * self.n_head
        if not work.dense:  # recurrent: S += k v^T and q S, token by token
            useful = heads * work.tokens * d * d
            repeat = heads * work.tokens
            return (
                Matmul(d, 1, d, repeat, useful, weight_format=None, result_bits=STATE_BITS),
                Matmul(1, d, d, repeat, useful, weight_format=None, right_bits=STATE_BITS),
            )
        chunk = min(self.chunk, work.tokens)
        chunks = heads * math.ceil(work.tokens / chunk)
        return (
            Matmul(chunk, d, chunk, chunks, weight_format=None),
            Matmul(chunk, chunk, d, chunks, weight_format=None),
            Matmul(d, chunk, d, chunks, weight_format=None, result_bits=STATE_BITS),
            Matmul(chunk, d, d, chunks, weight_format=None, right_bits=STATE_BITS),
        )


def _widened(x: Tensor) -> Tensor:
    """In fp32 at least: the sums over all tokens need its range."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
