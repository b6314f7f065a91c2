"""State space heads: between the outer maps of a selective state space, and beside attention in a hybrid."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minigpt.components.attention.recurrent.conv import ShortConv
from minigpt.components.attention.recurrent.gated import before_this, init_rates, without_padding
from minigpt.components.attention.recurrent.scan import RecurrentState, Scan, as_heads, widened
from minigpt.components.base import BuildContext, Part, full_precision
from minigpt.components.call import Call
from minigpt.components.initialiser import Initialiser
from minigpt.cost import Cost, Work


class StateSpaceHeads(Part):
    """x (B, T, C) -> what ``inner / head_dim`` state space heads find, normed and gated: (B, T, inner).

    The formulas are those of ``attention=ssm``. position: what turns C and B, or None.
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
