"""GELU activation."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from minigpt.components.activation.base import Activation
from minigpt.registry import register


@register("activation", "gelu")
class GELU(Activation):
    """y = x Phi(x) = x (1 + erf(x / sqrt 2)) / 2.  Hendrycks & Gimpel 2016, arXiv:1606.08415."""

    operations = {"mul": 3, "erf": 1, "add": 1}

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(x)
