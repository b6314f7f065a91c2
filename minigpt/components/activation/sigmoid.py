"""Sigmoid activation."""

from __future__ import annotations

import torch
from torch import Tensor

from minigpt.components.activation.base import Activation
from minigpt.cost import Work
from minigpt.registry import register


@register("activation", "sigmoid")
class Sigmoid(Activation):
    """y = 1 / (1 + exp(-x)): with ``mlp=glu`` the gated linear unit of Dauphin et al. 2016, arXiv:1612.08083."""

    operations = {"exp": 1, "add": 1, "recip": 1}

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(x)

    def hardware_form(self, work: Work) -> dict[str, int]:
        """Torch has it as one operation."""
        n = work.elements
        return {"sigmoid": n, "exp": -n, "add": -n, "recip": -n}
