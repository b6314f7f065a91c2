"""SELU activation."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from minigpt.components.activation.base import Activation
from minigpt.cost import Work
from minigpt.registry import register


@register("activation", "selu")
class SELU(Activation):
    """y = s x where x > 0, else s a (exp(x) - 1), with s = 1.0507 and a = 1.6733: of variance 1 for an input of
    variance 1.  Klambauer et al. 2017, arXiv:1706.02515.
    """

    operations = {"cmp": 1, "exp": 1, "add": 1, "mul": 2, "select": 1}

    def forward(self, x: Tensor) -> Tensor:
        return F.selu(x)

    def hardware_form(self, work: Work) -> dict[str, int]:
        """Torch has exp(x) - 1 as one operation, and computes it as an ELU that scales its input, too."""
        return {"add": -work.elements, "mul": work.elements}
