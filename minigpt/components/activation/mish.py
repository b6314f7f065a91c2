"""Mish activation."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from minigpt.components.activation.base import Activation
from minigpt.cost import Work
from minigpt.registry import register


@register("activation", "mish")
class Mish(Activation):
    """y = x tanh(log(1 + exp(x))).  Misra 2019, arXiv:1908.08681.

    Cost is the hardware form with one exponential: y = x n / (n + 2), n = e (e + 2), e = exp(x).
    """

    operations = {"exp": 1, "add": 2, "mul": 3, "recip": 1}

    def forward(self, x: Tensor) -> Tensor:
        return F.mish(x)

    def hardware_form(self, work: Work) -> dict[str, int]:
        """Torch takes the logarithm and the tanh, and guards the exponential against large x."""
        form = {"log": 1, "tanh": 1, "cmp": 1, "select": 1, "add": -2, "mul": -2, "recip": -1}
        return {op: k * work.elements for op, k in form.items()}
