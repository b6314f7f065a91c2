"""Softermax: softmax in base two, for hardware that shifts."""

from __future__ import annotations

import torch
from torch import Tensor

from minigpt.components.base import BuildContext
from minigpt.components.softmax.base import Softmax
from minigpt.cost import Cost, Work
from minigpt.registry import register
from minigpt.schema import options


@register("softmax", "softermax")
class Softermax(Softmax):
    """y = 2^(s - m) / sum(2^(s - m)).  Stevens et al., DAC 2021, arXiv:2103.09301.

    online: m is the row's maximum rounded up to a whole number, so that a running sum is corrected by a shift whenever
    the maximum grows, and one walk over the row gives both. Otherwise m is the exact maximum, found in a walk of its
    own.
    """

    normalised = True
    reductions = 2

    @options
    class Config:
        online: bool = True

    cases = [{"online": False}]
    changes = {"online": "work"}  # the maximum cancels, rounded or not

    def __init__(self, config: Config, ctx: BuildContext):
        super().__init__()
        self.online = config.online

    def forward(self, scores: Tensor) -> Tensor:
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))  # as PyTorch's own softmax does
        largest = scores.detach().amax(dim=-1, keepdim=True)  # cancels in the quotient, so it needs no gradient
        powers = torch.exp2(scores - (torch.ceil(largest) if self.online else largest))
        return powers / powers.sum(dim=-1, keepdim=True)

    def hardware_form(self, work: Work) -> dict[str, int]:
        """Torch divides by the row's sum; in hardware that is one reciprocal per row and a multiply per element."""
        return {"recip": -work.rows}

    def cost(self, work: Work) -> Cost:
        n = work.elements
        ops = {"max": n, "sub": n, "exp2": n, "add": n, "mul": n, "recip": work.rows}
        if self.online:
            ops["round"] = work.rows
        return Cost(ops=ops, activations=2 * n, reductions=2, passes=2 if self.online else 3)
