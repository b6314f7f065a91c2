"""The two-matrix MLP."""

from __future__ import annotations

from typing import Annotated

from torch import Tensor

from minigpt.components.base import BuildContext
from minigpt.components.call import Call
from minigpt.components.mlp.base import FeedForward
from minigpt.components.quantiser.base import mlp_quantiser_costs
from minigpt.cost import Cost, Work
from minigpt.registry import register
from minigpt.schema import PositiveInt, Range, options


@register("mlp", "mlp")
class MLP(FeedForward):
    """y = W_down act(W_up x).  Vaswani et al. 2017, arXiv:1706.03762.

    hidden: width in between; None is expansion * d_model.

    x (B, T, d_model) -> (B, T, hidden) -> (B, T, d_model). Learns up: (hidden, d_model), down: (d_model, hidden).
    """

    uses = frozenset({"activation", "linear", "quantiser"})

    input_maps = ("up",)

    @options
    class Config:
        expansion: Annotated[float, Range(gt=0, le=1024)] = 4.0
        hidden: PositiveInt | None = None

    cases = [{"expansion": 2.0}, {"hidden": 24}]

    def __init__(self, config: Config, ctx: BuildContext):
        super().__init__()
        self.d_model = ctx.d_model
        self.hidden = config.hidden or max(1, round(config.expansion * ctx.d_model))
        self.up = ctx.linear(ctx.d_model, self.hidden, site="up")
        self.activation = ctx.activation(self.hidden, site="mlp")
        self.down = ctx.linear(self.hidden, ctx.d_model, site="down", role="residual_out")
        self.quantise = ctx.quantisers("mlp_input", "mlp_hidden", "mlp_output")

    def forward(self, x: Tensor, call: Call) -> Tensor:
        hidden = self.activation(self.up(self.quantise["mlp_input"](x)))  # (B, T, hidden)
        return self.quantise["mlp_output"](self.down(self.quantise["mlp_hidden"](hidden)))  # (B, T, d_model)

    def cost(self, work: Work) -> Cost:
        n = work.all_tokens * self.hidden
        parts = {
            "up": self.up.cost(work.fed(self.quantise["mlp_input"].bits)),
            "activation": self.activation.cost(work.over(work.all_tokens, n)),
            "down": self.down.cost(work.fed(self.quantise["mlp_hidden"].bits)),
        }
        return Cost(parts=parts | mlp_quantiser_costs(self.quantise, work, self.d_model, n))
