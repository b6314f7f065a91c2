"""The gated linear unit."""

from __future__ import annotations

import math
from typing import Annotated

from torch import Tensor

from minigpt.components.base import BuildContext
from minigpt.components.call import Call
from minigpt.components.mlp.base import FeedForward
from minigpt.components.quantiser.base import mlp_quantiser_costs
from minigpt.cost import Cost, Work
from minigpt.registry import register
from minigpt.schema import PositiveInt, Range, options


@register("mlp", "glu")
class GLU(FeedForward):
    """y = W_down (act(W_gate x) * W_up x).  Shazeer 2020, arXiv:2002.05202: SwiGLU with activation=silu, GEGLU with
    gelu.

    hidden: width in between; None is expansion * d_model rounded up to ``multiple_of``. The default expansion of 8/3
    gives the three matrices the parameters of an MLP's two.

    x (B, T, d_model) -> (B, T, hidden) -> (B, T, d_model). Learns gate, up: (hidden, d_model), down: (d_model, hidden).
    """

    uses = frozenset({"activation", "linear", "quantiser"})

    input_maps = ("gate", "up")

    @options
    class Config:
        expansion: Annotated[float, Range(gt=0, le=1024)] = 8 / 3
        hidden: PositiveInt | None = None
        multiple_of: PositiveInt = 8

    cases = [{"expansion": 2.0}, {"hidden": 24}, {"multiple_of": 3}]

    def __init__(self, config: Config, ctx: BuildContext):
        super().__init__()
        self.d_model = ctx.d_model
        wanted = config.expansion * ctx.d_model
        self.hidden = config.hidden or math.ceil(wanted / config.multiple_of - 1e-9) * config.multiple_of
        self.gate = ctx.linear(ctx.d_model, self.hidden, site="gate")
        self.up = ctx.linear(ctx.d_model, self.hidden, site="up")
        self.activation = ctx.activation(self.hidden, site="mlp")
        self.down = ctx.linear(self.hidden, ctx.d_model, site="down", role="residual_out")
        self.quantise = ctx.quantisers("mlp_input", "mlp_hidden", "mlp_output")

    def forward(self, x: Tensor, call: Call) -> Tensor:
        x = self.quantise["mlp_input"](x)
        hidden = self.quantise["mlp_hidden"](self.activation(self.gate(x)) * self.up(x))  # (B, T, hidden)
        return self.quantise["mlp_output"](self.down(hidden))  # (B, T, d_model)

    def cost(self, work: Work) -> Cost:
        n, rounded = work.all_tokens * self.hidden, work.fed(self.quantise["mlp_input"].bits)
        parts = {
            "gate": self.gate.cost(rounded),
            "up": self.up.cost(rounded),
            "activation": self.activation.cost(work.over(work.all_tokens, n)),
            "down": self.down.cost(work.fed(self.quantise["mlp_hidden"].bits)),
        }
        parts |= mlp_quantiser_costs(self.quantise, work, self.d_model, n)
        return Cost(ops={"mul": n}, activations=3 * n, parts=parts)
