"""Two thresholds, one for each sign."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from torch import Tensor, nn

from minigpt.components.base import BuildContext
from minigpt.components.call import Call
from minigpt.components.initialiser import Initialiser
from minigpt.components.mlp.base import FeedForward
from minigpt.components.quantiser.base import mlp_quantiser_costs
from minigpt.cost import Cost, Work
from minigpt.registry import register
from minigpt.schema import PositiveInt, Range, options


@register("mlp", "dual_path")
class DualPath(FeedForward):
    """y = P_1 act(h - o) - P_2 act(-(h + o)), h = W_up x: what is above a threshold and what is below its negative,
    each with a way out of its own.

    No paper; in use in ReaLLM-Forge, a fork of nanoGPT. With act=relu and o > 0, P_1 = P_2, it is soft thresholding.
    With ``gated`` h = W_gate x, and both paths are multiplied by W_up x. hidden: None is expansion * d_model rounded up
    to a multiple of 8; expansion: None gives the parameters of an MLP of expansion 4: 8/3 or, gated, 2.

    x (B, T, d_model) -> h (B, T, hidden) -> both paths (B, T, 2 hidden) -> (B, T, d_model). Learns up, and gated gate:
    (hidden, d_model), down = [P_1, -P_2]: (d_model, 2 hidden), o: (hidden,), which starts at ``offset_init``.
    """

    uses = frozenset({"activation", "linear", "quantiser"})

    input_maps = ("gate", "up")

    @options
    class Config:
        gated: bool = False
        offset_init: float = 0.0
        expansion: Annotated[float, Range(gt=0, le=1024)] | None = None
        hidden: PositiveInt | None = None

    cases = [{"gated": True}, {"offset_init": 0.5, "hidden": 24}, {"expansion": 2.0}]

    def __init__(self, config: Config, ctx: BuildContext):
        super().__init__()
        expansion = config.expansion or (2.0 if config.gated else 8 / 3)
        self.hidden = config.hidden or math.ceil(expansion * ctx.d_model / 8 - 1e-9) * 8
        self.gated, self.offset_init = config.gated, config.offset_init
        self.gate = ctx.linear(ctx.d_model, self.hidden, site="gate") if config.gated else None
        self.up = ctx.linear(ctx.d_model, self.hidden, site="up")
        self.offset = nn.Parameter(torch.empty(self.hidden))
        self.activation = ctx.activation(2 * self.hidden, site="mlp")
        self.down = ctx.linear(2 * self.hidden, ctx.d_model, site="down", role="residual_out")
        self.d_model = ctx.d_model
        self.quantise = ctx.quantisers("mlp_input", "mlp_hidden", "mlp_output")

    def init_parameters(self, init: Initialiser) -> None:
        init.constant(self.offset, self.offset_init, "bias")

    def forward(self, x: Tensor, call: Call) -> Tensor:
        x = self.quantise["mlp_input"](x)
        h = self.up(x) if self.gate is None else self.gate(x)  # (B, T, hidden)
        both = self.activation(torch.cat([h - self.offset, -self.offset - h], dim=-1))  # (B, T, 2 hidden)
        if self.gate is not None:
            both = (both.unflatten(-1, (2, self.hidden)) * self.up(x)[..., None, :]).flatten(-2)
        return self.quantise["mlp_output"](self.down(self.quantise["mlp_hidden"](both)))

    def cost(self, work: Work) -> Cost:
        n, params = work.all_tokens * self.hidden, self.own_params()
        gated = self.gate is not None
        rounded, kept = (work.fed(self.quantise[site].bits) for site in ("mlp_input", "mlp_hidden"))
        parts = {name: getattr(self, name).cost(rounded) for name in ("gate", "up")[not gated :]}
        parts |= {"down": self.down.cost(kept)} | mlp_quantiser_costs(self.quantise, work, self.d_model, 2 * n)
        parts["activation"] = self.activation.cost(work.over(work.all_tokens, 2 * n))
        return Cost(
            params=params,
            weights_read={"native": params},
            ops={"sub": 2 * n, "mul": 2 * n} if gated else {"sub": 2 * n},
            activations=8 * n if gated else 3 * n,
            parts=parts,
        )
