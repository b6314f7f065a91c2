"""Selective state space: a linear recurrence whose step the token decides."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minigpt.components.attention.base import Attention
from minigpt.components.attention.recurrent.conv import ShortConv
from minigpt.components.attention.recurrent.gated import before_this, init_rates, without_padding
from minigpt.components.attention.recurrent.scan import RecurrentState, Scan, as_heads, widened
from minigpt.components.base import BuildContext, Part, full_precision
from minigpt.components.call import Call
from minigpt.components.initialiser import Initialiser
from minigpt.components.quantiser.base import attention_quantiser_costs
from minigpt.cost import Cost, Work
from minigpt.errors import UserError
from minigpt.registry import register
from minigpt.schema import PositiveInt, options


class StateSpaceHeads(Part):
    """x (B, T, C) -> what ``inner / head_dim`` state space heads find, normed and gated: (B, T, inner).

    The formulas are those of :class:`StateSpace`. position: what turns C and B, or None.
    """

    position: Any

    def __init__(
        self,
        ctx: BuildContext,
        inner: int,
        head_dim: int,
        state_dim: int,
        conv: int,
        chunk: int,
        position: Part | None = None,
    ):
        super().__init__()
        self.inner, self.state_dim, self.heads = inner, state_dim, inner // head_dim
        channels = inner + 2 * state_dim
        self.project = ctx.linear(ctx.d_model, inner + channels + self.heads, site="in")
        self.conv = ShortConv(channels, conv, bias=True)
        self.activation = ctx.activation(channels, site="conv")
        self.position = position
        self.scan = Scan(self.heads, state_dim, head_dim, chunk, "token", shared_keys=True)
        self.log_rate = nn.Parameter(torch.empty(self.heads))
        self.step_bias = nn.Parameter(torch.empty(self.heads))
        self.skip = nn.Parameter(torch.empty(self.heads))
        self.gate = ctx.activation(inner, site="gate")
        self.norm = ctx.norm(inner, site="mix")

    def init_parameters(self, init: Initialiser) -> None:
        init_rates(init, self.log_rate, self.step_bias)
        init.constant(self.skip, 1.0, "scalar")

    def new_state(self, batch: int, device: torch.device, dtype: torch.dtype) -> RecurrentState:
        return RecurrentState(sums=self.scan.start(batch, device), conv=self.conv.start(batch, device, dtype))

    def forward(self, x: Tensor, call: Call, state: RecurrentState | None = None) -> Tensor:
        sizes = (self.inner, self.inner + 2 * self.state_dim, self.heads)
        z, mixed, step = self.project(x).split(sizes, dim=-1)
        mixed = self.activation(self.conv(mixed, call, state))
        with full_precision(x.device):
            y = self._found(widened(mixed), widened(step), call, state)  # (B, T, inner)
        return self.norm(y.to(x.dtype) * self.gate(z))

    def _found(self, mixed: Tensor, step: Tensor, call: Call, state: RecurrentState | None) -> Tensor:
        """mixed: (B, T, inner + 2 N), step: (B, T, H), at least fp32."""
        x, b, c = mixed.split((self.inner, self.state_dim, self.state_dim), dim=-1)
        b, c = b[:, None], c[:, None]  # (B, 1, T, N): all heads share them
        if self.position is not None:
            c, b = self.position.rotate(c, call, "query"), self.position.rotate(b, call, "key")
        x = as_heads(x, self.heads)  # (B, H, T, P)
        step = F.softplus(step + self.step_bias).transpose(1, 2)  # (B, H, T)
        log_decay = step * -self.log_rate.exp()[:, None]
        y, sums = self.scan.run(c, without_padding(b, call), x * step[..., None], log_decay, before_this(state))
        if state is not None:
            state["sums"] = sums
        return (y + x * self.skip[:, None, None]).transpose(1, 2).flatten(2)

    def hardware_form(self, work: Work) -> dict[str, int]:
        """Torch has log(1 + x) as one operation and leaves it out for large x, and goes in chunks, see the scan's
        form."""
        steps = work.all_tokens * self.heads
        found = self.scan.form(work)
        found.update({"add": -steps, "cmp": steps, "select": steps})
        return dict(found)

    def cost(self, work: Work) -> Cost:
        tokens, n, steps = work.all_tokens, work.all_tokens * self.inner, work.all_tokens * self.heads
        ops = self.scan.ops(work)
        ops["exp"] += steps  # softplus of the step and its bias; times the rate
        ops |= {"log": steps, "add": 2 * steps + n}  # the skip adds x
        ops["mul"] += steps + 3 * n  # x times the step, times the skip, and the gate
        channels = self.conv.channels
        parts = {
            "project": self.project.cost(work),
            "conv": self.conv.cost(work),
            "activation": self.activation.cost(work.over(tokens, tokens * channels)),
            "gate": self.gate.cost(work.over(tokens, n)),
            "norm": self.norm.cost(work.over(tokens, n)),
        }
        if self.position is not None:
            parts["position"] = self.position.cost(work.over(2 * tokens, 0))
        state_bits = self.scan.state_bits(work.batch)
        return Cost(
            params=self.own_params(),
            weights_read={"native": self.own_params()},
            matmuls=self.scan.products(work),
            ops=ops,
            state_bits=state_bits,
            state_read_bits=state_bits if work.context > work.tokens else 0,
            state_written_bits=state_bits,
            activations=tokens * channels + steps + n,
            parts=parts,
        )


@register("attention", "ssm")
class StateSpace(Attention):
    """S_t = exp(-A dt_t) S_{t-1} + dt_t B_t^T x_t, y_t = C_t S_t + D x_t, out = W_o norm(y * act(z)).

    Dao & Gu 2024 (Mamba-2), arXiv:2405.21060: z, (x, B, C), dt = W_in u; x, B, C = act(conv(x, B, C)), a causal
    convolution over ``conv`` tokens, channel by channel; dt = softplus(dt + bias), one per head; A > 0 and D of each
    head. B and C, ``state_dim`` N wide, are shared by all heads. With activation=silu and position=nope it is theirs; a
    rotary position turns C and B.

    expand: width of x over d_model. head_dim: P, of one head; None is the model's. Computed in chunks of ``chunk``
    tokens, see :class:`~minigpt.components.attention.recurrent.scan.Scan`; the state, one N x P matrix per head and the
    last conv - 1 tokens, does not grow with the context.

    u (B, T, d_model) -> x (B, H, T, P), B, C (B, 1, T, N), dt (B, H, T) -> y (B, H, T, P) -> (B, T, d_model). Learns
    W_in as project: (2 H P + 2 N + H, d_model), the convolution: (H P + 2 N, conv) and its bias (H P + 2 N,), log A, D
    and the bias of dt: (H,), the norm's gain, W_o: (d_model, H P).
    """

    uses = frozenset({"activation", "linear", "norm", "position", "quantiser"})
    places = frozenset({"rotary"})

    @options
    class Config:
        expand: PositiveInt = 2
        state_dim: PositiveInt = 64
        conv: PositiveInt = 4
        head_dim: PositiveInt | None = None
        chunk: PositiveInt = 64

    cases = [
        {"expand": 1, "state_dim": 6, "chunk": 5},
        {"head_dim": 16, "conv": 2, "with": {"position": "nope"}},
    ]
    changes = {"chunk": "work"}

    def __init__(self, config: Config, ctx: BuildContext):
        super().__init__()
        inner, head_dim = config.expand * ctx.d_model, config.head_dim or ctx.head_dim
        if inner % head_dim:
            raise UserError(
                f"attention.head_dim: heads of {head_dim} do not divide the width {inner} of attention=ssm "
                f"(expand * d_model). Take a divisor of it"
            )
        position = self.build_position(ctx, config.state_dim)
        self.heads = StateSpaceHeads(ctx, inner, head_dim, config.state_dim, config.conv, config.chunk, position)
        self.o = ctx.linear(inner, ctx.d_model, site="o", role="residual_out")
        self.d_model = ctx.d_model
        self.quantise = ctx.quantisers("attention_input", "attention_output")

    @property
    def path(self) -> str:
        return self.heads.scan.path

    def new_state(self, batch: int, capacity: int, device: torch.device, dtype: torch.dtype) -> RecurrentState:
        return self.heads.new_state(batch, device, dtype)

    def forward(self, x: Tensor, call: Call, state: RecurrentState | None = None) -> Tensor:
        x = self.quantise["attention_input"](x)
        return self.quantise["attention_output"](self.o(self.heads(x, call, state)))

    def cost(self, work: Work) -> Cost:
        heads = self.heads.cost(work.fed(self.quantise["attention_input"].bits))
        rounding = attention_quantiser_costs(self.quantise, work, self.d_model)
        return Cost(parts={"heads": heads, "o": self.o.cost(work)} | rounding)
