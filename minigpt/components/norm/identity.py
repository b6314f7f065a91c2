"""No norm."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from minigpt.components.base import BuildContext
from minigpt.components.norm.base import Norm
from minigpt.cost import Cost, Work
from minigpt.registry import register


@register("norm", "identity")
class IdentityNorm(Norm):
    """y = x: what a model does without normalisation.  torch.nn.Identity."""

    reductions = 0

    def __init__(self, config: Any, ctx: BuildContext, width: int):
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x

    def cost(self, work: Work) -> Cost:
        return Cost()
