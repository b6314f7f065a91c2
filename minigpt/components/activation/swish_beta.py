"""Swish with a learned slope."""

from __future__ import annotations

import torch
from torch import Tensor

from minigpt.components.activation.base import LearnedActivation
from minigpt.components.base import BuildContext
from minigpt.cost import Work
from minigpt.registry import register
from minigpt.schema import options


@register("activation", "swish_beta")
class SwishBeta(LearnedActivation):
    """y = x sigmoid(beta x): x / 2 for beta = 0, SiLU for 1, towards ReLU beyond.  Ramachandran, Zoph & Le 2017,
    arXiv:1710.05941.

    Learns beta: (1,), or (width,) with ``per_channel``, from ``beta_init``.
    """

    operations = {"mul": 2, "exp": 1, "add": 1, "recip": 1}

    @options
    class Config:
        beta_init: float = 1.0
        per_channel: bool = False

    cases = [{"beta_init": 0.25}, {"per_channel": True}]

    def __init__(self, config: Config, ctx: BuildContext, width: int):
        super().__init__(config.beta_init, config.per_channel, width)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.learned.to(x.dtype) * x)

    def hardware_form(self, work: Work) -> dict[str, int]:
        """Torch has the sigmoid as one operation."""
        n = work.elements
        return {"sigmoid": n, "exp": -n, "add": -n, "recip": -n}
