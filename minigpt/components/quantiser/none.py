"""No rounding of activations."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from minigpt.components.base import BuildContext
from minigpt.components.quantiser.base import Quantiser
from minigpt.cost import Cost, Work
from minigpt.registry import register


@register("quantiser", "none")
class NoQuantiser(Quantiser):
    """y = x: activations stay in the working precision.  torch.nn.Identity."""

    def __init__(self, config: Any, ctx: BuildContext):
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x

    def cost(self, work: Work) -> Cost:
        return Cost()
