"""Partial root-mean-square normalisation."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from torch import Tensor

from minigpt.components.base import BuildContext
from minigpt.components.norm.base import RowScaledNorm
from minigpt.cost import Cost, Work
from minigpt.registry import register
from minigpt.schema import PositiveFloat, Range, options


@register("norm", "prmsnorm")
class PartialRMSNorm(RowScaledNorm):
    """y = g * x / sqrt(mean(x_1^2 to x_m^2) + eps), m = ceil(p width).  Zhang & Sennrich 2019, arXiv:1910.07467.

    x: (..., width) -> (..., width). Learns g: (width,) unless ``gain`` is false. The first ``p`` of the row stand for
    all of it: a pipeline waits for a sum of m squares only.
    """

    reductions = 1

    @options
    class Config:
        p: Annotated[float, Range(gt=0, le=1)] = 0.0625
        eps: PositiveFloat = 1e-6
        gain: bool = True

    cases = [{"p": 0.5, "eps": 0.1}, {"gain": False}]

    def __init__(self, config: Config, ctx: BuildContext, width: int):
        super().__init__(width, config.gain)
        self.used, self.eps = math.ceil(config.p * width - 1e-9), config.eps

    def row_scale(self, x: Tensor) -> Tensor:
        return torch.rsqrt(x[..., : self.used].square().mean(dim=-1, keepdim=True) + self.eps)

    def hardware_form(self, work: Work) -> dict[str, int]:
        """eps is added once per row, and the mean is one scaling per row."""
        return {"add": work.rows, "mul": work.rows}

    def cost(self, work: Work) -> Cost:
        n, squares, params = work.elements, work.rows * self.used, self.own_params()
        ops = {"add": squares, "mul": squares + (1 if self.gain is None else 2) * n, "rsqrt": work.rows}
        return Cost(params=params, weights_read={"native": params}, ops=ops, activations=2 * n, reductions=1, passes=2)
