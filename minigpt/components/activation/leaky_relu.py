"""Leaky ReLU activation."""

from __future__ import annotations

from typing import Annotated

import torch.nn.functional as F
from torch import Tensor

from minigpt.components.activation.base import Activation
from minigpt.components.base import BuildContext
from minigpt.registry import register
from minigpt.schema import Range, options


@register("activation", "leaky_relu")
class LeakyReLU(Activation):
    """y = x where x > 0, else negative_slope x.  Maas, Hannun & Ng, ICML 2013."""

    operations = {"cmp": 1, "mul": 1, "select": 1}

    @options
    class Config:
        negative_slope: Annotated[float, Range(ge=-1, lt=1)] = 0.01

    cases = [{"negative_slope": 0.2}]

    def __init__(self, config: Config, ctx: BuildContext, width: int):
        super().__init__(config, ctx, width)
        self.negative_slope = config.negative_slope

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x, self.negative_slope)
