"""The two-matrix MLP."""

from __future__ import annotations

from typing import Annotated

from torch import Tensor

from minigpt.components.base import BuildContext
from minigpt.components.call import Call
from minigpt.components.mlp.base import FeedForward
from minigpt.cost import Cost, Work
from minigpt.registry import register
from minigpt.schema import PositiveInt, Range, options


@register("mlp", "mlp")
class MLP(FeedForward):
    """W_down act(W_up x).  Vaswani et al. 2017, arXiv:1706.03762.

    hidden: width in between; None is expansion * d_model.
    """

    uses = frozenset({"activation", "linear"})

    @options
    class Config:
        expansion: Annotated[float, Range(gt=0, le=1024)] = 4.0
        hidden: PositiveInt | None = None

    cases = [{"expansion": 2.0}, {"hidden": 24}]

    def __init__(self, config: Config, ctx: BuildContext):
        super().__init__()
        self.hidden = config.hidden or max(1, round(config.expansion * ctx.d_model))
        self.up = ctx.linear(ctx.d_model, self.hidden, site="up")
        self.activation = ctx.activation(self.hidden, site="mlp")
        self.down = ctx.linear(self.hidden, ctx.d_model, site="down", role="residual_out")

    def forward(self, x: Tensor, call: Call) -> Tensor:
        return self.down(self.activation(self.up(x)))  # (B, T, d_model) -> (B, T, hidden) -> (B, T, d_model)

    def cost(self, work: Work) -> Cost:
        hidden = work.over(work.all_tokens, work.all_tokens * self.hidden)
        parts = {"up": self.up.cost(work), "activation": self.activation.cost(hidden), "down": self.down.cost(work)}
        return Cost(parts=parts)
