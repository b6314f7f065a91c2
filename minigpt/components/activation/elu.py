"""ELU activation."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from minigpt.components.activation.base import Activation
from minigpt.components.base import BuildContext
from minigpt.cost import Work
from minigpt.registry import register
from minigpt.schema import PositiveFloat, options


@register("activation", "elu")
class ELU(Activation):
    """y = x where x > 0, else alpha (exp(x) - 1).  Clevert, Unterthiner & Hochreiter 2015, arXiv:1511.07289."""

    @options
    class Config:
        alpha: PositiveFloat = 1.0

    cases = [{"alpha": 0.5}]

    def __init__(self, config: Config, ctx: BuildContext, width: int):
        super().__init__(config, ctx, width)
        self.alpha = config.alpha

    def forward(self, x: Tensor) -> Tensor:
        return F.elu(x, self.alpha)

    def operations_of_one(self) -> dict[str, int]:
        return {"cmp": 1, "exp": 1, "add": 1, "select": 1} | ({} if self.alpha == 1 else {"mul": 1})

    def hardware_form(self, work: Work) -> dict[str, int]:
        """Torch has exp(x) - 1 as one operation, and scales both branches and the input, mostly by one."""
        return {"add": -work.elements, "mul": (3 if self.alpha == 1 else 2) * work.elements}
