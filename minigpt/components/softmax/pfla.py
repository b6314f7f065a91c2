"""Attention weights by a learned curve through knots."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minigpt.components.activation.knots import spread
from minigpt.components.base import BuildContext
from minigpt.components.initialiser import Initialiser
from minigpt.components.softmax.base import Softmax
from minigpt.cost import Cost, Work
from minigpt.errors import UserError
from minigpt.registry import register
from minigpt.schema import PositiveFloat, Range, options

CURVES: dict[str, Callable[[Tensor], Tensor]] = {
    "exp": torch.exp, "softplus": F.softplus, "sigmoid": torch.sigmoid, "relu": F.relu, "gelu": F.gelu,
}  # fmt: skip
LEAST = 1e-6
"""A height starts no lower, wherever its curve is: heights are stored as logarithms."""


@register("softmax", "pfla")
class PiecewiseSoftmax(Softmax):
    """y = f(s) / sum(f(s)), or f(s) / gamma: f is a curve through learned heights at fixed knots, constant beyond them.

    Learns the logarithms of the heights, (points,), so that no weight is negative, and with normalise=gamma log gamma,
    (1,), which starts from gamma_init (None is 100). Heights start as ``init_activation``. Knots lie from -bounds to
    bounds: evenly (``linear``), or closer together near 0, as u |u| (``quad``) or exponentially (``exp``). mode:
    between knots a line, or a parabola (``quadratic``): that of the knot before and both ends of a piece, with its
    middle control height kept from below zero.

    Learned piecewise-linear functions: Agostinelli et al. 2014, arXiv:1412.6830. In hardware a piece is found by
    rounding where knots are even, else by binary search, and evaluated from a table of coefficients.
    """

    normalised = True
    reductions = 1
    knots: Tensor

    @options
    class Config:
        points: Annotated[int, Range(ge=3, le=4096)] = 30
        bounds: Annotated[float, Range(ge=1e-2, le=1e4)] = 10.0
        density: Literal["linear", "quad", "exp"] = "linear"
        init_activation: Literal["exp", "softplus", "sigmoid", "relu", "gelu"] = "exp"
        mode: Literal["linear", "quadratic"] = "linear"
        normalise: Literal["sum", "gamma"] = "sum"
        gamma_init: PositiveFloat | None = None

    cases = [
        {"points": 9, "bounds": 4.0, "init_activation": "gelu", "mode": "quadratic"},
        {"density": "quad", "init_activation": "softplus"},
        {"density": "exp", "init_activation": "sigmoid", "mode": "quadratic"},
        {"init_activation": "relu", "normalise": "gamma", "gamma_init": 4.0},
    ]

    def __init__(self, config: Config, ctx: BuildContext):
        super().__init__()
        if config.gamma_init is not None and config.normalise != "gamma":
            raise UserError("softmax.gamma_init: there is no gamma beside a sum. Set softmax.normalise=gamma too")
        self.config = config
        self.log_heights = nn.Parameter(torch.empty(config.points))
        summed = config.normalise == "sum"
        self.log_gamma = None if summed else nn.Parameter(torch.empty(1))
        self.normalised, self.reductions = summed, int(summed)
        self.register_buffer("knots", torch.empty(config.points), persistent=False)

    def init_parameters(self, init: Initialiser) -> None:
        config = self.config
        heights = CURVES[config.init_activation](spread(config.points, config.bounds, config.density))
        init.values(self.log_heights, heights.clamp_min(LEAST).log(), "scalar")
        if self.log_gamma is not None:
            init.constant(self.log_gamma, math.log(config.gamma_init or 100.0), "scalar")

    def init_buffers(self) -> None:
        self.knots.copy_(spread(self.config.points, self.config.bounds, self.config.density))

    def forward(self, scores: Tensor) -> Tensor:
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))  # as PyTorch's own softmax does
        heights = self.log_heights.to(scores.dtype)
        heights = (heights if self.log_gamma is None else heights - self.log_gamma).exp()
        index, share = self._piece(scores)
        curve = self._curve(heights, index.flatten(), share.flatten()).view_as(scores)
        weights = curve.masked_fill(scores.isneginf(), 0.0)
        return weights if self.log_gamma is not None else weights / weights.sum(dim=-1, keepdim=True)

    def _piece(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """The piece each score lies in, and how much of it is to its left: 0 to 1, whatever lies beyond the knots."""
        knots, points = self.knots.to(scores.dtype), self.config.points
        if self.config.density == "linear":
            place = (scores + self.config.bounds) * ((points - 1) / (2 * self.config.bounds))
            index = place.detach().clamp(0, points - 2).long()
            return index, (place - index).clamp(0, 1)
        index = torch.searchsorted(knots[1:-1].contiguous(), scores.detach())
        per_unit = 1 / knots.diff().clamp_min(
            torch.finfo(torch.float16).tiny
        )  # two may round to one in a narrow format
        return index, ((scores - knots[index]) * per_unit[index]).clamp(0, 1)

    def _curve(self, heights: Tensor, index: Tensor, share: Tensor) -> Tensor:
        """index, share: (N,) -> (N,).  A mean of heights with weights from 0 to 1: never negative."""
        left, right = heights[:-1].gather(0, index), heights[1:].gather(0, index)
        rest = 1 - share
        if self.config.mode == "linear":
            return rest * left + share * right
        middle = self._middles(heights).gather(0, index)
        return rest * (rest * left + share * middle) + share * (rest * middle + share * right)

    def _middles(self, heights: Tensor) -> Tensor:
        """(points - 1,) middle control height of each piece's parabola; the first piece has a line."""
        gaps = self.knots.to(heights.dtype).diff()
        slopes = heights.diff() / gaps
        at_knot = (slopes[:-1] * gaps[1:] + slopes[1:] * gaps[:-1]) / (gaps[1:] + gaps[:-1])
        bent = (heights[1:-1] + at_knot * gaps[1:] / 2).clamp_min(0)
        return torch.cat([(heights[:1] + heights[1:2]) / 2, bent])

    def hardware_form(self, work: Work) -> dict[str, int]:
        """Torch takes means of heights where hardware evaluates a polynomial of tabulated coefficients; hardware rounds
        to a piece, or finds one among all knots; a sum is one reciprocal per row."""
        n, even, bent = work.elements, self.config.density == "linear", self.config.mode == "quadratic"
        points = self.config.points
        return {
            "lut": -(3 if bent else 2) * n,
            "round": -even * n,
            "cmp": 0 if even else ((points - 2).bit_length() + 1 - points.bit_length()) * n,
            "add": (2 + even + bent) * n,
            "mul": (5 if bent else 2) * n,
            "recip": -work.rows * (self.log_gamma is None),
        }

    def cost(self, work: Work) -> Cost:
        n, params, config = work.elements, self.own_params(), self.config
        degree = 2 if config.mode == "quadratic" else 1
        even = config.density == "linear"
        ops = {"lut": (degree + 1) * n, "mul": degree * n, "add": degree * n}
        ops |= {"cmp": 2 * n, "round": n} if even else {"cmp": config.points.bit_length() * n}
        if self.log_gamma is None:
            ops |= {"mul": ops["mul"] + n, "add": ops["add"] + n, "recip": work.rows}
        return Cost(
            params=params,
            weights_read={"native": params},
            ops=ops,
            activations=2 * n,
            reductions=self.reductions,
            passes=1 + self.reductions,
        )
