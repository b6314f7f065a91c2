"""ReLU6 activation."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from minigpt.components.activation.base import Activation
from minigpt.cost import Work
from minigpt.registry import register


@register("activation", "relu6")
class ReLU6(Activation):
    """y = min(max(x, 0), 6): of few bits.  Krizhevsky 2010; Howard et al. 2017 (MobileNets), arXiv:1704.04861."""

    operations = {"cmp": 2}

    def forward(self, x: Tensor) -> Tensor:
        return F.relu6(x)

    def hardware_form(self, work: Work) -> dict[str, int]:
        """Torch has both bounds in one operation."""
        return {"cmp": -work.elements}
