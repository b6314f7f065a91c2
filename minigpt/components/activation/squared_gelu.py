"""Squared GELU activation."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from minigpt.components.activation.base import Activation
from minigpt.registry import register


@register("activation", "squared_gelu")
class SquaredGELU(Activation):
    """y = (x Phi(x))^2: the smooth sister of squared ReLU (So et al. 2021, arXiv:2109.08668)."""

    operations = {"mul": 4, "erf": 1, "add": 1}

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(x).square()
