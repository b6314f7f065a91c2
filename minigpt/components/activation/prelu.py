"""Parametric ReLU activation."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from minigpt.components.activation.base import LearnedActivation
from minigpt.components.base import BuildContext
from minigpt.registry import register
from minigpt.schema import options


@register("activation", "prelu")
class PReLU(LearnedActivation):
    """y = x where x > 0, else a x.  He et al. 2015, arXiv:1502.01852.

    Learns a: (1,), or (width,) with ``per_channel``, from ``slope_init``.
    """

    operations = {"cmp": 1, "mul": 1, "select": 1}

    @options
    class Config:
        slope_init: float = 0.25
        per_channel: bool = False

    cases = [{"slope_init": 0.5}, {"per_channel": True}]

    def __init__(self, config: Config, ctx: BuildContext, width: int):
        super().__init__(config.slope_init, config.per_channel, width)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.flatten(0, -2)  # torch looks for channels in the second dimension
        return F.prelu(rows, self.learned.to(x.dtype)).view_as(x)
