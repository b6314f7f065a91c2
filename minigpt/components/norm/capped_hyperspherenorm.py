"""Projection into a ball."""

from __future__ import annotations

import torch
from torch import Tensor

from minigpt.components.base import BuildContext
from minigpt.components.norm.sphere import SphereNorm
from minigpt.cost import Cost, Work
from minigpt.registry import register
from minigpt.schema import PositiveFloat, options


@register("norm", "capped_hyperspherenorm")
class CappedHypersphereNorm(SphereNorm):
    """y = g * x min(1, r / |x|): a row outside the sphere of radius r is put onto it, one inside stays as it is.

    The nearest point of the ball: projection onto a convex set, Boyd & Vandenberghe 2004, section 8.1. x: (..., width)
    -> (..., width). radius: None is sqrt(width). Learns log(r), (1,), with ``learned_radius``, g: (width,) with
    ``gain``. Like DyT it leaves small inputs small, and a radius that no row reaches is not learned.
    """

    @options
    class Config:
        radius: PositiveFloat | None = None
        learned_radius: bool = False
        gain: bool = False

    cases = [{"radius": 0.5, "gain": True}, {"radius": 0.05, "learned_radius": True}]

    def __init__(self, config: Config, ctx: BuildContext, width: int):
        super().__init__(config, width)

    def forward(self, x: Tensor) -> Tensor:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))  # in which squares do not overflow
        radius, squares = self.radius(), wide.square().sum(dim=-1, keepdim=True)
        if isinstance(radius, Tensor):
            largest = torch.maximum(squares, radius.square())
        else:
            largest = squares.clamp_min(radius * radius)
        y = wide * (radius * torch.rsqrt(largest))  # of the square: a norm has no slope at zero
        return (y if self.gain is None else y * self.gain).to(x.dtype)

    def hardware_form(self, work: Work) -> dict[str, int]:
        """Torch takes the larger of two tensors for a learned radius."""
        return {} if self.log_radius is None else {"max": work.rows, "cmp": -work.rows}

    def cost(self, work: Work) -> Cost:
        n, rows, params = work.elements, work.rows, self.own_params()
        ops = {"add": n, "mul": (2 if self.gain is None else 3) * n + rows, "cmp": rows, "rsqrt": rows}
        return Cost(params=params, weights_read={"native": params}, ops=ops, activations=2 * n, reductions=1, passes=2)
