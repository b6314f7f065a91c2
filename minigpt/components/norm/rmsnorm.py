"""Root-mean-square normalisation."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minigpt.components.base import BuildContext
from minigpt.components.initialiser import Initialiser
from minigpt.components.norm.base import Norm
from minigpt.cost import Cost, Work
from minigpt.errors import UserError
from minigpt.registry import register
from minigpt.schema import PositiveFloat, options


@register("norm", "rmsnorm")
class RMSNorm(Norm):
    """y = g * x / sqrt(mean(x^2) + eps).  Zhang & Sennrich 2019, arXiv:1910.07467.

    x: (..., width) -> (..., width). Learns g: (width,) unless ``gain`` is false. A zero vector stays zero.
    unit_offset: what is learned is g - 1, so that decay and narrow formats draw the gain towards one, not zero (Gemma,
    arXiv:2403.08295).
    """

    reductions = 1

    @options
    class Config:
        eps: PositiveFloat = 1e-6
        gain: bool = True
        unit_offset: bool = False

    cases = [{"eps": 0.1}, {"gain": False}, {"unit_offset": True}]
    changes = {"unit_offset": "start"}

    def __init__(self, config: Config, ctx: BuildContext, width: int):
        super().__init__()
        if config.unit_offset and not config.gain:
            raise UserError("norm.unit_offset: is about the gain, and gain=false learns none. Leave one of them out")
        self.gain = nn.Parameter(torch.empty(width)) if config.gain else None
        self.eps, self.shape, self.unit_offset = config.eps, (width,), config.unit_offset

    def init_parameters(self, init: Initialiser) -> None:
        if self.gain is not None:
            init.constant(self.gain, 0.0 if self.unit_offset else 1.0, "gain")

    def forward(self, x: Tensor) -> Tensor:
        wide = x if self.gain is None else x.to(self.gain.dtype)  # queries and keys come narrow under autocast
        gain = self.gain if self.gain is None or not self.unit_offset else 1 + self.gain
        return F.rms_norm(wide, self.shape, gain, self.eps).to(x.dtype)

    def hardware_form(self, work: Work) -> dict[str, int]:
        """eps is added once per row, and the mean is one scaling per row."""
        return {"add": work.rows, "mul": work.rows}

    def cost(self, work: Work) -> Cost:
        n = work.elements
        ops = {"add": n, "mul": (2 if self.gain is None else 3) * n, "rsqrt": work.rows}
        params = self.own_params()
        return Cost(params=params, weights_read={"native": params}, ops=ops, activations=2 * n, reductions=1, passes=2)
