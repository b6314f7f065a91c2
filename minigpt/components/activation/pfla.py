"""A piecewise-linear activation with learned knots."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from minigpt.components.activation.base import Activation
from minigpt.components.activation.knots import FUNCTIONS, columns, on_lines, restored, spread
from minigpt.components.base import BuildContext
from minigpt.components.initialiser import Initialiser
from minigpt.cost import Work
from minigpt.registry import register
from minigpt.schema import PositiveFloat, Range, options


@register("activation", "pfla")
class PiecewiseFullyLearned(Activation):
    """y = h_i + (x - k_i) (h_{i+1} - h_i) / (k_{i+1} - k_i) for k_i < x <= k_{i+1}: lines between learned points.

    Learns the first knot, (1, 1), the logarithms of the gaps between knots, (1, points - 1), so that they never cross,
    and the heights h, (1, points); with ``per_channel`` a row of each for every channel: (width, 1) and so on. Knots
    start from -bound to bound: evenly (``linear``), or closer together near 0, as u |u| (``quad``) or exponentially
    (``exp``); heights start as ``init_activation``. The outermost lines go on beyond the knots. A piece is found by
    binary search. Learned piecewise-linear units: Agostinelli et al. 2014, arXiv:1412.6830.
    """

    @options
    class Config:
        points: Annotated[int, Range(ge=3, le=4096)] = 30
        bound: PositiveFloat = 10.0
        density: Literal["linear", "quad", "exp"] = "linear"
        init_activation: Literal["gelu", "silu", "relu", "tanh"] = "gelu"
        per_channel: bool = False

    cases = [
        {"init_activation": "silu", "density": "quad", "points": 9},
        {"init_activation": "relu", "density": "exp", "bound": 4.0},
        {"init_activation": "tanh", "per_channel": True},
    ]

    def __init__(self, config: Config, ctx: BuildContext, width: int):
        super().__init__(config, ctx, width)
        rows, n = width if config.per_channel else 1, config.points
        self.first = nn.Parameter(torch.empty(rows, 1))
        self.log_gaps = nn.Parameter(torch.empty(rows, n - 1))
        self.heights = nn.Parameter(torch.empty(rows, n))
        self.config = config

    def init_parameters(self, init: Initialiser) -> None:
        knots = spread(self.config.points, self.config.bound, self.config.density)
        heights = FUNCTIONS[self.config.init_activation](knots)
        for parameter, start in ((self.first, knots[:1]), (self.log_gaps, knots.diff().log()), (self.heights, heights)):
            init.values(parameter, start.expand(parameter.shape), "scalar")

    def forward(self, x: Tensor) -> Tensor:
        gaps = self.log_gaps.exp()
        knots = torch.cat([self.first, self.first + gaps.cumsum(dim=-1)], dim=-1)  # (R, n)
        cols = columns(x, self.heights)
        index = torch.searchsorted(knots[:, 1:-1].detach().contiguous(), cols.detach())
        return restored(on_lines(cols, index, gaps, knots, self.heights), x)

    def operations_of_one(self) -> dict[str, int]:
        return {"cmp": (self.config.points - 2).bit_length(), "lut": 2, "mul": 1, "add": 1}

    def hardware_form(self, work: Work) -> dict[str, int]:
        """Torch reads a table for nothing."""
        return {"lut": -2 * work.elements}
