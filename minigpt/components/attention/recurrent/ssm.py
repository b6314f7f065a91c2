"""Selective state space: a linear recurrence whose step the token decides."""

from __future__ import annotations

import torch
from torch import Tensor

from minigpt.components.attention.base import Attention
from minigpt.components.attention.recurrent.scan import RecurrentState
from minigpt.components.attention.recurrent.state_space import StateSpaceHeads
from minigpt.components.base import BuildContext
from minigpt.components.call import Call
from minigpt.components.quantiser.base import attention_quantiser_costs
from minigpt.cost import Cost, Work
from minigpt.errors import UserError
from minigpt.registry import register
from minigpt.schema import PositiveInt, options


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
