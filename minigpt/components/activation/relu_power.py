"""A power of the ReLU."""

from __future__ import annotations

from typing import Annotated

import torch.nn.functional as F
from torch import Tensor

from minigpt.components.activation.base import Activation
from minigpt.components.base import BuildContext
from minigpt.cost import Work
from minigpt.registry import register
from minigpt.schema import Range, options


@register("activation", "relu_power")
class ReLUPower(Activation):
    """y = max(x, 0)^power.  So et al. 2021 (Primer), arXiv:2109.08668, tried several; theirs is 2, ``squared_relu``.

    power is at least 1: below, the slope at 0 has no bound. A whole power is a chain of products in hardware, any other
    exp(power log x).
    """

    @options
    class Config:
        power: Annotated[float, Range(ge=1, le=16)] = 2.0

    cases = [{"power": 3.0}, {"power": 1.5}]

    def __init__(self, config: Config, ctx: BuildContext, width: int):
        super().__init__(config, ctx, width)
        self.power = config.power

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x).pow(self.power)

    def operations_of_one(self) -> dict[str, int]:
        if self.power != int(self.power):
            return {"cmp": 1, "log": 1, "mul": 1, "exp": 1}
        whole = int(self.power)
        return {"cmp": 1, "mul": whole.bit_length() - 2 + whole.bit_count()}  # square and multiply

    def hardware_form(self, work: Work) -> dict[str, int]:
        """Torch has a power as one operation, counted as one product."""
        form = {op: -k for op, k in self.operations_of_one().items() if op != "cmp"}
        return {op: (k + (op == "mul")) * work.elements for op, k in form.items()}
