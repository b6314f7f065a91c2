"""Consistent softmax: attention weights without a reduction over the row."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from torch import Tensor

from minigpt.components.base import BuildContext
from minigpt.components.softmax.consistent import Consistent
from minigpt.registry import register
from minigpt.schema import PositiveFloat, Range, options


@register("softmax", "consmax")
class ConSmax(Consistent):
    """y = base^(s - beta) / gamma, with learned beta and gamma instead of the row's max and sum.

    Liu et al., ICCAD 2024, arXiv:2402.10930. Rows do not sum to one. Because nothing is reduced, a row streams through
    hardware element by element; at inference both constants fold into one: y = C * base^s, C = base^-beta / gamma. Cost
    is that hardware form: base^s as the product of two table reads (high and low half of s), times C - folded into the
    tables unless every head has its own.

    clamp: scores above it count as it, so that no exponential overflows; None lets all through. Learns beta and log
    gamma: (1,) each, or with ``per_head`` (H, 1, 1).
    """

    @options
    class Config:
        beta_init: Annotated[float, Range(ge=-1e4, le=1e4)] = 2.5
        gamma_init: PositiveFloat = 100.0  # gamma is stored as its logarithm, so that it stays positive
        base: Annotated[float, Range(gt=1, le=1e4)] = math.e
        per_head: bool = False
        clamp: Annotated[float, Range(ge=-1e4, le=1e4)] | None = None

    cases = [
        {"beta_init": 1.0},
        {"gamma_init": 20.0},
        {"per_head": True},
        {"base": 2.0, "gamma_init": 20.0},
        {"clamp": 0.25, "gamma_init": 20.0},
    ]

    def __init__(self, config: Config, ctx: BuildContext):
        super().__init__(ctx, config.beta_init, config.gamma_init, config.per_head, config.base)
        self.clamp = config.clamp
        if self.clamp is not None:
            self.compared = 1

    def forward(self, scores: Tensor) -> Tensor:
        if self.clamp is not None:
            scores = scores.clamp_max(self.clamp)
        return torch.exp(self.natural(scores) - (self.natural(self.beta) + self.log_gamma))
