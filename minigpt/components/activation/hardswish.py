"""Hard swish activation."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from minigpt.components.activation.base import Activation
from minigpt.cost import Work
from minigpt.registry import register


@register("activation", "hardswish")
class Hardswish(Activation):
    """y = x min(max(x + 3, 0), 6) / 6: SiLU without an exponential.  Howard et al. 2019, arXiv:1905.02244.

    In hardware the sixth is folded into the next matrix.
    """

    operations = {"add": 1, "cmp": 2, "mul": 1}

    def forward(self, x: Tensor) -> Tensor:
        return F.hardswish(x)

    def hardware_form(self, work: Work) -> dict[str, int]:
        """Torch divides by six."""
        return {"mul": work.elements}
