"""SiLU activation."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from minigpt.components.activation.base import Activation
from minigpt.cost import Work
from minigpt.registry import register


@register("activation", "silu")
class SiLU(Activation):
    """y = x sigmoid(x) = x / (1 + exp(-x)).  Elfwing et al. 2017, arXiv:1702.03118."""

    operations = {"exp": 1, "add": 1, "recip": 1, "mul": 1}

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(x)

    def hardware_form(self, work: Work) -> dict[str, int]:
        """Torch has the sigmoid as one operation."""
        n = work.elements
        return {"sigmoid": n, "exp": -n, "add": -n, "recip": -n}
