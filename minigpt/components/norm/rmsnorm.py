"""Root-mean-square normalisation."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minigpt.components.base import BuildContext
from minigpt.components.initialiser import Initialiser
from minigpt.components.norm.base import Norm
from minigpt.cost import Cost, Work
from minigpt.registry import register
from minigpt.schema import PositiveFloat, options


@register("norm", "rmsnorm")
class RMSNorm(Norm):
    """y = g * x / sqrt(mean(x^2) + eps).  Zhang & Sennrich 2019, arXiv:1910.07467.

    x: (..., width) -> (..., width). Learns g: (width,) unless ``gain`` is false. A zero vector stays zero.
    """

    reductions = 1

    @options
    class Config:
        eps: PositiveFloat = 1e-6
        gain: bool = True

    cases = [{"eps": 0.1}, {"gain": False}]

    def __init__(self, config: Config, ctx: BuildContext, width: int):
        super().__init__()
        self.gain = nn.Parameter(torch.empty(width)) if config.gain else None
        self.eps, self.shape = config.eps, (width,)

    def init_parameters(self, init: Initialiser) -> None:
        if self.gain is not None:
            init.constant(self.gain, 1.0, "gain")

    def forward(self, x: Tensor) -> Tensor:
        wide = x if self.gain is None else x.to(self.gain.dtype)  # queries and keys come narrow under autocast
        return F.rms_norm(wide, self.shape, self.gain, self.eps).to(x.dtype)

    def hardware_form(self, work: Work) -> dict[str, int]:
        """eps is added once per row, and the mean is one scaling per row."""
        return {"add": work.rows, "mul": work.rows}

    def cost(self, work: Work) -> Cost:
        n = work.elements
        ops = {"add": n, "mul": (2 if self.gain is None else 3) * n, "rsqrt": work.rows}
        params = self.own_params()
        return Cost(params=params, weights_read={"native": params}, ops=ops, activations=2 * n, reductions=1, passes=2)
