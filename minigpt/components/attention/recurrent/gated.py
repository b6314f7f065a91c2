"""What gated recurrent attentions share: projections before the scan, norm, gate and output map after it."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import torch
from torch import Tensor

from minigpt.components.attention.base import Attention
from minigpt.components.attention.recurrent.scan import RecurrentState, as_heads, widened
from minigpt.components.base import BuildContext
from minigpt.components.call import Call
from minigpt.components.initialiser import Initialiser
from minigpt.components.quantiser.base import ROUNDED, attention_quantiser_costs
from minigpt.cost import Cost, Work


class GatedAttention(Attention):
    """y = W_o (norm(o) * act(W_g x)), o (B, H, T, d) what the heads' scan finds, normed head by head.

    scan: how q, k and v become o, and what that costs. gate: without it, y = W_o norm(o). position turns q and k.
    """

    uses = frozenset({"activation", "linear", "norm", "position", "quantiser"})
    places = frozenset({"rotary"})
    scan: Any
    activation: Any

    def __init__(self, ctx: BuildContext, gate: bool = True):
        super().__init__()
        self.d_model, self.n_head, self.head_dim = ctx.d_model, ctx.n_head, ctx.head_dim
        inner = ctx.n_head * ctx.head_dim
        self.q = ctx.linear(ctx.d_model, inner, site="q")
        self.k = ctx.linear(ctx.d_model, inner, site="k")
        self.v = ctx.linear(ctx.d_model, inner, site="v")
        self.norm = ctx.norm(ctx.head_dim, site="mix")
        self.g = ctx.linear(ctx.d_model, inner, site="attention_gate") if gate else None
        self.activation = ctx.activation(inner, site="gate") if gate else None
        self.o = ctx.linear(inner, ctx.d_model, site="o", role="residual_out")
        self.position = self.build_position(ctx)
        self.quantise = ctx.quantisers(*ROUNDED)

    @property
    def path(self) -> str:
        return self.scan.path

    def new_state(self, batch: int, capacity: int, device: torch.device, dtype: torch.dtype) -> RecurrentState:
        return RecurrentState(sums=self.scan.start(batch, device))

    def _projected(self, x: Tensor, call: Call) -> tuple[Tensor, Tensor, Tensor]:
        """x: (B, T, C) -> q, k, v (B, H, T, d), at least fp32; q and k turned, k zero for padding; rounded."""
        q, k, v = (widened(as_heads(linear(x), self.n_head)) for linear in (self.q, self.k, self.v))
        return self._rounded(*self._turned(q, k, call), v)

    def _rounded(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.quantise["q"](q), self.quantise["k"](k), self.quantise["v"](v)

    def _turned(self, q: Tensor, k: Tensor, call: Call) -> tuple[Tensor, Tensor]:
        if self.position is not None:
            q, k = self.position.rotate(q, call, "query"), self.position.rotate(k, call, "key")
        return q, without_padding(k, call)

    def _read_out(self, found: Tensor, x: Tensor) -> Tensor:
        """found: (B, H, T, d) -> (B, T, C)."""
        y = self.norm(found.to(x.dtype).transpose(1, 2)).flatten(2)  # (B, T, H d)
        if self.g is not None:
            y = y * self.activation(self.g(x))
        return self.quantise["attention_output"](self.o(y))

    def _fed(self, work: Work) -> Work:
        """The call as the maps that read the input see it."""
        return work.fed(self.quantise["attention_input"].bits)

    def hardware_form(self, work: Work) -> dict[str, int]:
        """Torch goes in chunks, see the scan's form."""
        return dict(self.scan.form(work))

    def cost(self, work: Work) -> Cost:
        rows = work.all_tokens * self.n_head
        n = rows * self.head_dim
        ops = Counter(self.scan.ops(work))
        rounded, head = self._fed(work), (self.n_head, self.head_dim)
        parts = {name: getattr(self, name).cost(rounded) for name in ("q", "k", "v")} | {"o": self.o.cost(work)}
        parts |= attention_quantiser_costs(self.quantise, work, self.d_model, q=head, k=head, v=head)
        parts["norm"] = self.norm.cost(work.over(rows, n))
        if self.g is not None:
            ops["mul"] += n
            parts |= {"g": self.g.cost(rounded), "activation": self.activation.cost(work.over(work.all_tokens, n))}
        if self.position is not None:
            parts["position"] = self.position.cost(work.over(2 * rows, 0))
        state_bits = self.scan.state_bits(work.batch)
        return Cost(
            params=self.own_params(),
            weights_read={"native": self.own_params()},
            matmuls=self.scan.products(work),
            ops=ops,
            state_bits=state_bits,
            state_read_bits=state_bits if work.context > work.tokens else 0,
            state_written_bits=state_bits,
            activations=4 * n,
            parts=parts,
        )


def without_padding(keys: Tensor, call: Call) -> Tensor:
    """keys: (B, H, T, d), zero where a token is padding, so that no sum takes it in."""
    return keys if call.span.real is None else keys * call.span.real[:, None, :, None]


def before_this(state: RecurrentState | None, name: str = "sums") -> Tensor | None:
    """What a state remembers under ``name``, None without one."""
    return None if state is None else state[name]


def init_rates(init: Initialiser, log_rate: Tensor, step_bias: Tensor) -> None:
    """Decays exp(-rate softplus(x + bias)) as Mamba-2 starts them: rates from 1 to 16, steps from 0.001 to 0.1, evenly
    in their logarithm."""

    def rates(generator: torch.Generator) -> Tensor:
        return (1 + 15 * torch.rand(log_rate.shape, generator=generator)).log()

    def biases(generator: torch.Generator) -> Tensor:
        least, most = math.log(0.001), math.log(0.1)
        step = torch.exp(least + (most - least) * torch.rand(step_bias.shape, generator=generator))
        return step + torch.log(-torch.expm1(-step))  # softplus of it is the step

    init.values(log_rate, rates, "scalar")
    init.values(step_bias, biases, "scalar")
