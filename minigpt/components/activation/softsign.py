"""Softsign activation."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from minigpt.components.activation.base import Activation
from minigpt.cost import Work
from minigpt.registry import register


@register("activation", "softsign")
class Softsign(Activation):
    """y = x / (1 + |x|): like tanh, without an exponential.  Bergstra et al. 2009; Glorot & Bengio, AISTATS 2010."""

    operations = {"abs": 1, "add": 1, "recip": 1, "mul": 1}

    def forward(self, x: Tensor) -> Tensor:
        return F.softsign(x)

    def hardware_form(self, work: Work) -> dict[str, int]:
        """Torch divides; hardware multiplies with the reciprocal."""
        return {"recip": -work.elements}
