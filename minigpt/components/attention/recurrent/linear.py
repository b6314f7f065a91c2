"""Linear attention: a running sum of k v^T in place of a cache that grows."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from minigpt.components.attention.base import Attention
from minigpt.components.attention.recurrent.scan import STATE_BITS, RecurrentState, Scan, as_heads, widened
from minigpt.components.base import BuildContext, full_precision
from minigpt.components.call import Call
from minigpt.components.quantiser.base import ROUNDED, attention_quantiser_costs
from minigpt.cost import Cost, Work
from minigpt.registry import register
from minigpt.schema import PositiveInt, options


@dataclasses.dataclass(frozen=True)
class FeatureMap:
    """phi, never negative. ops: of one element. per_row: of a whole vector. torch_more: what torch's form of an element
    has more or less, torch_row: of a vector; why is said beside each."""

    phi: Callable[[Tensor], Tensor]
    ops: Mapping[str, int]
    per_row: Mapping[str, int] = dataclasses.field(default_factory=dict)
    torch_more: Mapping[str, int] = dataclasses.field(default_factory=dict)
    torch_row: Mapping[str, int] = dataclasses.field(default_factory=dict)


FEATURE_MAPS = {
    # torch chooses between the two sides of elu and scales each
    "elu1": FeatureMap(lambda x: F.elu(x) + 1, {"exp": 1, "cmp": 1, "add": 1}, torch_more={"select": 1, "mul": 3}),
    "relu": FeatureMap(F.relu, {"cmp": 1}),
    # torch has log(1 + x) as one operation and chooses the identity for large x
    "softplus": FeatureMap(F.softplus, {"exp": 1, "add": 1, "log": 1}, torch_more={"add": -1, "cmp": 1, "select": 1}),
    # torch divides every element instead of taking one reciprocal per vector
    "softmax": FeatureMap(
        lambda x: torch.softmax(x, dim=-1), {"max": 1, "exp": 1, "add": 2, "mul": 1}, {"recip": 1}, {}, {"recip": -1}
    ),
}


@register("attention", "linear")
class LinearAttention(Attention):
    """y_t = phi(q_t) S_t / (phi(q_t) z_t), S_t = sum phi(k_s)^T v_s, z_t = sum phi(k_s)^T over s <= t.

    Katharopoulos et al. 2020, arXiv:2006.16236, with phi = elu + 1, ``elu1``. The state does not grow with the context.
    feature_map: phi, never negative, so that the denominator is 0 only where the numerator is: ``relu``; ``softplus``;
    ``softmax`` over the width of a head (Shen et al. 2018, arXiv:1812.01243).

    With position=rope the queries and keys of the numerator are turned, those of the denominator are not
    (Su et al. 2021, section 3.3), so it stays positive. Computed in chunks of ``chunk`` tokens, see
    :class:`~minigpt.components.attention.recurrent.scan.Scan`.

    x (B, T, C) -> q, k, v (B, H, T, d) -> y (B, H, T, d) -> (B, T, C). Learns q, k, v: (H d, C), o: (C, H d).
    """

    uses = frozenset({"linear", "position", "quantiser"})
    places = frozenset({"rotary"})

    @options
    class Config:
        feature_map: Literal["elu1", "relu", "softplus", "softmax"] = "elu1"
        chunk: PositiveInt = 64

    cases = [
        {"chunk": 5},
        {"feature_map": "relu", "chunk": 3, "with": {"position": "nope"}},
        {"feature_map": "softplus"},
        {"feature_map": "softmax"},
    ]
    changes = {"chunk": "work"}  # the order of the sums, not what they come to

    def __init__(self, config: Config, ctx: BuildContext):
        super().__init__()
        self.d_model, self.n_head, self.head_dim = ctx.d_model, ctx.n_head, ctx.head_dim
        self.feature_map = config.feature_map
        self.scan = Scan(ctx.n_head, ctx.head_dim, ctx.head_dim, config.chunk)
        inner = ctx.n_head * ctx.head_dim
        self.q = ctx.linear(ctx.d_model, inner, site="q")
        self.k = ctx.linear(ctx.d_model, inner, site="k")
        self.v = ctx.linear(ctx.d_model, inner, site="v")
        self.o = ctx.linear(inner, ctx.d_model, site="o", role="residual_out")
        self.position = self.build_position(ctx)
        self.quantise = ctx.quantisers(*ROUNDED)

    @property
    def path(self) -> str:
        return self.scan.path

    def new_state(self, batch: int, capacity: int, device: torch.device, dtype: torch.dtype) -> RecurrentState:
        """sums: (B, H, d, d) of phi(k) v^T. keys: (B, H, 1, d) of phi(k)."""
        keys = torch.zeros(batch, self.n_head, 1, self.head_dim, device=device)
        return RecurrentState(sums=self.scan.start(batch, device), keys=keys)

    def forward(self, x: Tensor, call: Call, state: RecurrentState | None = None) -> Tensor:
        x = self.quantise["attention_input"](x)
        q, k, v = (widened(as_heads(linear(x), self.n_head)) for linear in (self.q, self.k, self.v))
        q, k, v = self.quantise["q"](q), self.quantise["k"](k), self.quantise["v"](v)
        with full_precision(x.device):
            y = self._attend(q, k, v, call, state)
        return self.quantise["attention_output"](self.o(y.to(x.dtype).transpose(1, 2).flatten(2)))

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, call: Call, state: RecurrentState | None) -> Tensor:
        """(B, H, T, d) each, at least fp32 -> (B, H, T, d)."""
        phi = FEATURE_MAPS[self.feature_map].phi
        q, k = phi(q), phi(k)
        if call.span.real is not None:
            k = k * call.span.real[:, None, :, None]
        seen = k.cumsum(dim=2)  # (B, H, T, d): z_t
        if state is not None:
            seen = seen + state["keys"]
            state["keys"] = seen[:, :, -1:].clone()  # a view would keep all of seen alive
        normaliser = (q * seen).sum(dim=-1, keepdim=True).clamp_min(1e-6)  # (B, H, T, 1)
        if self.position is not None:
            q, k = self.position.rotate(q, call, "query"), self.position.rotate(k, call, "key")
        y, sums = self.scan.run(q, k, v, None, None if state is None else state["sums"])
        if state is not None:
            state["sums"] = sums
        return y / normaliser

    def hardware_form(self, work: Work) -> dict[str, int]:
        """Torch's form of phi is another (see FEATURE_MAPS), it divides every element instead of taking one reciprocal
        per row, guards the denominator, and adds up chunks (see Scan)."""
        rows = work.all_tokens * self.n_head
        phi, found = FEATURE_MAPS[self.feature_map], self.scan.form(work)
        found.update({op: 2 * rows * self.head_dim * n for op, n in phi.torch_more.items()})
        found.update({op: 2 * rows * n for op, n in phi.torch_row.items()})
        found.update({"mul": 0, "cmp": rows, "recip": -rows})
        return dict(found)

    def cost(self, work: Work) -> Cost:
        rows = work.all_tokens * self.n_head
        n = rows * self.head_dim
        phi = FEATURE_MAPS[self.feature_map]
        ops = Counter({op: 2 * n * count for op, count in phi.ops.items()})  # of q and of k
        ops.update({op: 2 * rows * count for op, count in phi.per_row.items()})
        ops.update({"add": 2 * n, "mul": 2 * n, "recip": rows})  # z; normaliser: multiply and add; quotient
        state_bits = self.scan.state_bits(work.batch) + STATE_BITS * work.batch * self.n_head * self.head_dim
        rounded, head = work.fed(self.quantise["attention_input"].bits), (self.n_head, self.head_dim)
        parts = {name: getattr(self, name).cost(rounded) for name in ("q", "k", "v")} | {"o": self.o.cost(work)}
        parts |= attention_quantiser_costs(self.quantise, work, self.d_model, q=head, k=head, v=head)
        if self.position is not None:
            parts["position"] = self.position.cost(work.over(2 * rows, 0))
        return Cost(
            matmuls=self.scan.products(work),
            ops=ops,
            state_bits=state_bits,
            state_read_bits=state_bits if work.context > work.tokens else 0,
            state_written_bits=state_bits,
            activations=4 * n,
            parts=parts,
        )
