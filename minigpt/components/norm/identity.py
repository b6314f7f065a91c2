"""No norm."""

from __future__ import annotations

from torch import Tensor

from minigpt.components.base import BuildContext
from minigpt.components.norm.base import Norm
from minigpt.cost import Cost, Work
from minigpt.registry import register
from minigpt.schema import options


@register("norm", "identity")
class IdentityNorm(Norm):
    """y = x: what a model does without normalisation."""

    reductions = 0

    @options
    class Config:
        pass

    def __init__(self, config: Config, ctx: BuildContext, width: int):
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x

    def cost(self, work: Work) -> Cost:
        return Cost()
