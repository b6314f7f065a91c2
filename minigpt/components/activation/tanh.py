"""Tanh activation."""

from __future__ import annotations

import torch
from torch import Tensor

from minigpt.components.activation.base import Activation
from minigpt.registry import register


@register("activation", "tanh")
class Tanh(Activation):
    """y = tanh(x).  LeCun et al. 1998, Efficient BackProp."""

    operations = {"tanh": 1}

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x)
