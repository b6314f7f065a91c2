"""A learned interpolating cubic spline."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from minigpt.components.activation.base import Activation
from minigpt.components.activation.knots import FUNCTIONS, columns, restored, spread
from minigpt.components.base import BuildContext
from minigpt.components.initialiser import Initialiser
from minigpt.cost import Work
from minigpt.registry import register
from minigpt.schema import PositiveFloat, Range, options


@register("activation", "learned_spline")
class LearnedSpline(Activation):
    """The natural cubic spline through learned heights at even knots, and straight lines beyond the outermost.

    Between knots i and i + 1, with t from 0 to 1: y = h_i + t (c_1 + t (c_2 + t c_3)), with two continuous derivatives;
    at a knot it is the height, exactly. The second derivatives M solve M_{i-1} + 4 M_i + M_{i+1} = 6 (h_{i-1} - 2 h_i +
    h_{i+1}) with none at both ends; they are a constant matrix times h. Spline units: Bohra et al. 2020 (deep splines).

    Learns h: (1, points), or (width, points) with ``per_channel``, from ``init_activation`` at knots from -bound to
    bound. Cost is the hardware form: find the place in the table, read four numbers, three multiply-adds.
    """

    operations = {"add": 5, "mul": 4, "round": 1, "cmp": 2, "lut": 4}

    @options
    class Config:
        points: Annotated[int, Range(ge=3, le=64)] = 16
        bound: PositiveFloat = 4.0
        init_activation: Literal["gelu", "silu", "relu", "tanh"] = "gelu"
        per_channel: bool = False

    cases = [
        {"init_activation": "silu", "points": 9},
        {"init_activation": "relu", "bound": 2.0},
        {"init_activation": "tanh", "per_channel": True},
    ]

    bending: Tensor

    def __init__(self, config: Config, ctx: BuildContext, width: int):
        super().__init__(config, ctx, width)
        n = config.points
        self.heights = nn.Parameter(torch.empty(width if config.per_channel else 1, n))
        self.register_buffer("bending", torch.empty(n, n), persistent=False)
        self.config, self.per_unit = config, (n - 1) / (2 * config.bound)

    def init_parameters(self, init: Initialiser) -> None:
        start = FUNCTIONS[self.config.init_activation](spread(self.config.points, self.config.bound, "linear"))
        init.values(self.heights, start.expand(self.heights.shape), "scalar")

    def init_buffers(self) -> None:
        """(n, n): second derivatives at the knots from heights, in units of the gap."""
        n = self.config.points
        left, right = torch.eye(n, dtype=torch.float64), torch.zeros(n, n, dtype=torch.float64)
        for i in range(1, n - 1):
            left[i, i - 1 : i + 2] = torch.tensor([1.0, 4.0, 1.0])
            right[i, i - 1 : i + 2] = torch.tensor([6.0, -12.0, 6.0])
        with torch.no_grad():
            self.bending.copy_(torch.linalg.solve(left, right))

    def _coefficients(self) -> tuple[Tensor, ...]:
        """(R, n + 1) each: of the line before the first knot, the pieces, and the line behind the last."""
        h = self.heights
        second = (self.bending * h[:, None]).sum(dim=-1)  # (R, n)
        rise, here, there = h.diff(dim=-1), second[:, :-1], second[:, 1:]
        slope = rise - (2 * here + there) / 6  # at the left knot of each piece
        last = rise[:, -1:] + (here[:, -1:] + 2 * there[:, -1:]) / 6
        none = torch.zeros_like(last)
        c0 = torch.cat([h[:, :1], h], dim=-1)
        c1 = torch.cat([slope[:, :1], slope, last], dim=-1)
        c2 = torch.cat([none, here / 2, none], dim=-1)
        c3 = torch.cat([none, (there - here) / 6, none], dim=-1)
        return c0, c1, c2, c3

    def forward(self, x: Tensor) -> Tensor:
        cols = columns(x, self.heights)
        u = (cols + self.config.bound) * self.per_unit  # the first knot is at 0, the last at n - 1
        piece = u.detach().floor().clamp_(-1, self.config.points - 1)
        t = u - piece.clamp(min=0)
        index = piece.long().add_(1).clamp_(min=0)  # a NaN is in the first
        c0, c1, c2, c3 = (c.gather(1, index) for c in self._coefficients())
        return restored(c0 + t * (c1 + t * (c2 + t * c3)), x)

    def hardware_form(self, work: Work) -> dict[str, int]:
        """Torch reads a table for nothing."""
        return {"lut": -4 * work.elements}
