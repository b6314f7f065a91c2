"""Projection onto a sphere."""

from __future__ import annotations

import math
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from minigpt.components.base import BuildContext
from minigpt.components.norm.sphere import SphereNorm
from minigpt.cost import Cost, Work
from minigpt.registry import register
from minigpt.schema import PositiveFloat, options


@register("norm", "hyperspherenorm")
class HypersphereNorm(SphereNorm):
    """y = g * r x / |x|: every row lies on the sphere of radius r.  nGPT (Loshchilov et al. 2024, arXiv:2410.01131) has
    r = 1.

    x: (..., width) -> (..., width). radius: None is sqrt(width), at which it is an RMSNorm without gain. Learns log(r):
    (1,) with ``learned_radius``, g: (width,) with ``gain``. |x|^2 has width * eps added to it: a zero vector stays
    zero.
    """

    @options
    class Config:
        radius: PositiveFloat | None = None
        learned_radius: bool = False
        gain: bool = False
        eps: PositiveFloat = 1e-8

    cases = [{"radius": 2.0, "eps": 0.1}, {"learned_radius": True}, {"radius": 1.0, "gain": True}]

    def __init__(self, config: Config, ctx: BuildContext, width: int):
        super().__init__(config, width)
        self.eps = config.eps

    def forward(self, x: Tensor) -> Tensor:
        scale = self.radius() / math.sqrt(self.width)
        if isinstance(scale, float) and self.gain is None:
            y = F.rms_norm(x, (self.width,), None, self.eps)
            return y if scale == 1 else scale * y
        weight: Any = scale if self.gain is None else scale * self.gain
        return F.rms_norm(x.to(weight.dtype), (self.width,), weight.expand(self.width), self.eps).to(x.dtype)

    def hardware_form(self, work: Work) -> dict[str, int]:
        """eps is added once per row. Torch multiplies every element by the radius, unless it is the usual one; hardware
        multiplies the row's scale, in which the mean's is contained."""
        scaled = self.log_radius is not None or (self.gain is None and self.fixed != math.sqrt(self.width))
        extra = work.elements if self.gain is None and scaled else 0
        return {"add": work.rows, "mul": extra}

    def cost(self, work: Work) -> Cost:
        n, params = work.elements, self.own_params()
        ops = {"add": n, "mul": (2 if self.gain is None else 3) * n + work.rows, "rsqrt": work.rows}
        return Cost(params=params, weights_read={"native": params}, ops=ops, activations=2 * n, reductions=1, passes=2)
