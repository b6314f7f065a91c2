"""Snake activation."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from minigpt.components.activation.base import LearnedActivation
from minigpt.components.base import BuildContext
from minigpt.registry import register
from minigpt.schema import PositiveFloat, options


@register("activation", "snake")
class Snake(LearnedActivation):
    """y = x + sin^2(alpha x) / alpha: rises, and repeats itself.  Liu, Hartwig & Ueda 2020, arXiv:2006.08195.

    Learns log(alpha), so that alpha stays positive: (1,), or (width,) with ``per_channel``, from ``alpha_init``.
    """

    operations = {"mul": 3, "sin": 1, "add": 1}

    @options
    class Config:
        alpha_init: PositiveFloat = 1.0
        per_channel: bool = False

    cases = [{"alpha_init": 0.5}, {"per_channel": True}]

    def __init__(self, config: Config, ctx: BuildContext, width: int):
        super().__init__(math.log(config.alpha_init), config.per_channel, width)

    def forward(self, x: Tensor) -> Tensor:
        alpha, inverse = self.learned.exp().to(x.dtype), (-self.learned).exp().to(x.dtype)
        return x + inverse * torch.sin(alpha * x).square()
