"""The exact softmax."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from minigpt.components.base import BuildContext
from minigpt.components.softmax.base import Softmax
from minigpt.cost import Cost, Work
from minigpt.registry import register


@register("softmax", "softmax")
class ExactSoftmax(Softmax):
    """y = exp(s - max(s)) / sum(exp(s - max(s))), row by row: torch.softmax.  Vaswani et al. 2017, arXiv:1706.03762.

    Three walks over the row: its maximum, the sum of exponentials, the division; the row is buffered in between.
    """

    fused = True
    normalised = True
    reductions = 2

    def __init__(self, config: Any, ctx: BuildContext):
        super().__init__()

    def forward(self, scores: Tensor) -> Tensor:
        return torch.softmax(scores, dim=-1)

    def hardware_form(self, work: Work) -> dict[str, int]:
        """Torch divides by the row's sum; in hardware that is one reciprocal per row and a multiply per element."""
        return {"recip": -work.rows}

    def cost(self, work: Work) -> Cost:
        n = work.elements
        ops = {"max": n, "sub": n, "exp": n, "add": n, "mul": n, "recip": work.rows}
        return Cost(ops=ops, activations=2 * n, reductions=2, passes=3)
