"""GELU with a learned shift."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from minigpt.components.activation.base import LearnedActivation
from minigpt.components.base import BuildContext
from minigpt.registry import register
from minigpt.schema import options


@register("activation", "gelu_shifted")
class ShiftedGELU(LearnedActivation):
    """y = GELU(x - s).  GELU: Hendrycks & Gimpel 2016, arXiv:1606.08415.

    Learns s: (1,), or (width,) with ``per_channel``, from ``shift_init``.
    """

    operations = {"sub": 1, "mul": 3, "erf": 1, "add": 1}

    @options
    class Config:
        shift_init: float = 0.0
        per_channel: bool = False

    cases = [{"shift_init": 0.5}, {"per_channel": True}]

    def __init__(self, config: Config, ctx: BuildContext, width: int):
        super().__init__(config.shift_init, config.per_channel, width)

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(x - self.learned.to(x.dtype))
