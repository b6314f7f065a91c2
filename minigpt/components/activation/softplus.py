"""Softplus activation."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from minigpt.components.activation.base import Activation
from minigpt.components.base import BuildContext
from minigpt.cost import Work
from minigpt.registry import register
from minigpt.schema import PositiveFloat, options


@register("activation", "softplus")
class Softplus(Activation):
    """y = log(1 + exp(beta x)) / beta: a smooth ReLU.  Dugas et al., NeurIPS 2000."""

    @options
    class Config:
        beta: PositiveFloat = 1.0

    cases = [{"beta": 2.0}]

    def __init__(self, config: Config, ctx: BuildContext, width: int):
        super().__init__(config, ctx, width)
        self.beta = config.beta

    def forward(self, x: Tensor) -> Tensor:
        return F.softplus(x, self.beta)

    def operations_of_one(self) -> dict[str, int]:
        return {"exp": 1, "add": 1, "log": 1} | ({} if self.beta == 1 else {"mul": 2})

    def hardware_form(self, work: Work) -> dict[str, int]:
        """Torch has log(1 + x) as one operation, guards the exponential against large x, and scales by one, too."""
        n = work.elements
        return {"add": -n, "cmp": n, "select": n, "mul": 2 * n if self.beta == 1 else 0}
