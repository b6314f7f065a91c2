"""ReLU activation."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from minigpt.components.activation.base import Activation
from minigpt.registry import register


@register("activation", "relu")
class ReLU(Activation):
    """y = max(x, 0).  Nair & Hinton, ICML 2010."""

    operations = {"cmp": 1}

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x)
