"""Soft shrinkage activation."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from minigpt.components.activation.base import Activation
from minigpt.components.base import BuildContext
from minigpt.cost import Work
from minigpt.registry import register
from minigpt.schema import NonNegativeFloat, options


@register("activation", "softshrink")
class Softshrink(Activation):
    """y = x - min(max(x, -threshold), threshold): towards 0 by the threshold, 0 within.  Donoho 1995; as an activation
    Gregor & LeCun, ICML 2010.

    At the usual start a narrow model's hidden values are far smaller than the 0.5 of ``torch.nn.Softshrink``, within
    which nothing learns; hence the smaller default.
    """

    operations = {"cmp": 2, "sub": 1}

    @options
    class Config:
        threshold: NonNegativeFloat = 0.1

    cases = [{"threshold": 0.05}]

    def __init__(self, config: Config, ctx: BuildContext, width: int):
        super().__init__(config, ctx, width)
        self.threshold = config.threshold

    def forward(self, x: Tensor) -> Tensor:
        return F.softshrink(x, self.threshold)

    def hardware_form(self, work: Work) -> dict[str, int]:
        """Torch compares |x|, gives the threshold the sign of x, and multiplies once more to let NaN through."""
        return {"abs": work.elements, "mul": 2 * work.elements, "select": work.elements}
