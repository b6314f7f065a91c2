"""GELU by its tanh approximation."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from minigpt.components.activation.base import Activation
from minigpt.cost import Work
from minigpt.registry import register


@register("activation", "gelu_tanh")
class GELUTanh(Activation):
    """y = x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2: what GPT-2 was trained with.  Hendrycks & Gimpel 2016.

    Cost is the hardware form x (1 + tanh(x (a + b x^2))), with the half folded into the next matrix. arXiv:1606.08415.
    """

    operations = {"mul": 4, "tanh": 1, "add": 2}

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(x, approximate="tanh")

    def hardware_form(self, work: Work) -> dict[str, int]:
        """Torch multiplies x^3 and both constants out; hardware nests them and folds the half into the next matrix."""
        return {"mul": 2 * work.elements}
