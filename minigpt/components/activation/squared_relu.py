"""SquaredReLU activation."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from minigpt.components.activation.base import Activation
from minigpt.registry import register


@register("activation", "squared_relu")
class SquaredReLU(Activation):
    """y = max(x, 0)^2.  So et al. 2021 (Primer), arXiv:2109.08668."""

    operations = {"cmp": 1, "mul": 1}

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x).square()
