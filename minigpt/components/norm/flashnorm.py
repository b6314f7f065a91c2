"""Root-mean-square normalisation whose division waits for the next matrix."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from minigpt.components.base import BuildContext
from minigpt.components.deferred import Deferred
from minigpt.components.norm.base import Norm
from minigpt.cost import Cost, Work
from minigpt.registry import register
from minigpt.schema import PositiveFloat, options


@register("norm", "flashnorm")
class FlashNorm(Norm):
    """y = (x W^T) / sqrt(mean(x^2) + eps) + b: RMSNorm and the linear map W behind it, divided after the product.

    Graef et al. 2024, arXiv:2407.09577. x: (..., width) goes on as it is, with one scale per row: (..., 1). Learns
    nothing: the gain of an RMSNorm is folded into the columns of W. No product waits for the sum of squares, which is
    taken beside it. Only linear maps that do nothing but multiply can take such an input; other places refuse it, among
    them a head tied to the embedding (``sites.norm.final=rmsnorm``). The product takes rows unscaled, as large as they
    come.
    """

    deferred = True
    reductions = 0

    @options
    class Config:
        eps: PositiveFloat = 1e-6

    cases = [
        {"with": {"sites": {"norm": {"final": "rmsnorm"}}}},
        {"eps": 0.1, "with": {"sites": {"norm": {"final": "rmsnorm"}}, "mlp": "mlp"}},
    ]

    def __init__(self, config: Config, ctx: BuildContext, width: int):
        super().__init__()
        self.eps = config.eps

    def forward(self, x: Tensor) -> Any:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))  # in which squares do not overflow
        return Deferred(x, torch.rsqrt(wide.square().mean(dim=-1, keepdim=True) + self.eps))

    def hardware_form(self, work: Work) -> dict[str, int]:
        """eps is added once per row, and the mean is one scaling per row."""
        return {"add": work.rows, "mul": work.rows}

    def cost(self, work: Work) -> Cost:
        n = work.elements
        ops = {"add": n, "mul": n, "rsqrt": work.rows}
        return Cost(ops=ops, activations=n + work.rows, reductions=0, passes=1)
