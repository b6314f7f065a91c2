"""Consistent softmax that cannot overflow."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from torch import Tensor

from minigpt.components.base import BuildContext
from minigpt.components.softmax.consistent import Consistent
from minigpt.registry import register
from minigpt.schema import PositiveFloat, Range, options


@register("softmax", "saturating_consmax")
class SaturatingConSmax(Consistent):
    """y = base^min(s - beta, saturation) / gamma: ConSmax up to s = beta + saturation, constant from there on.

    saturation: of the exponent, 11 by default, because e^11 = 59874 is below the largest number of fp16, 65504. A row
    streams, and costs, as in consmax (arXiv:2402.10930), and one comparison per element. Learns beta and log gamma:
    (1,) each, or with ``per_head`` (H, 1, 1).
    """

    compared = 1
    beside = {"add": 2, "exp": 1}

    @options
    class Config:
        saturation: Annotated[float, Range(gt=0, le=80)] = 11.0
        beta_init: Annotated[float, Range(ge=-1e4, le=1e4)] = 2.5
        gamma_init: PositiveFloat = 100.0  # gamma is stored as its logarithm, so that it stays positive
        base: Annotated[float, Range(gt=1, le=1e4)] = math.e
        per_head: bool = False

    cases = [
        {"saturation": 0.5, "beta_init": -0.25, "gamma_init": 20.0},
        {"base": 2.0, "per_head": True, "gamma_init": 20.0},
    ]

    def __init__(self, config: Config, ctx: BuildContext):
        super().__init__(ctx, config.beta_init, config.gamma_init, config.per_head, config.base)
        self.saturation = config.saturation

    def forward(self, scores: Tensor) -> Tensor:
        exponent = (scores - self.beta).clamp_max(self.saturation)
        return torch.exp(self.natural(exponent) - self.log_gamma)
