"""A function as straight pieces between even knots."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from minigpt.components.activation.base import Activation
from minigpt.components.activation.knots import FUNCTIONS, columns, on_lines, place, restored, spread
from minigpt.components.base import BuildContext
from minigpt.components.initialiser import Initialiser
from minigpt.cost import Work
from minigpt.errors import UserError
from minigpt.registry import register
from minigpt.schema import PositiveFloat, Range, options


@register("activation", "piecewise_linear")
class PiecewiseLinear(Activation):
    """y = s_i x + b_i for x in piece i: the lines between ``points`` even knots from -bound to bound on ``function``.

    What a table in silicon makes of a function (Yu et al., DAC 2022, NN-LUT); the outermost lines go on beyond the
    knots. With ``learned`` it learns the heights at the knots, (1, points), or with ``per_channel`` (width, points),
    after Agostinelli et al. 2014, arXiv:1412.6830. Cost is the hardware form: scale, round and clamp x to a place in
    the table, read slope and intercept there, one multiply-add.
    """

    operations = {"add": 2, "mul": 2, "round": 1, "cmp": 2, "lut": 2}

    @options
    class Config:
        function: Literal["gelu", "silu", "relu", "tanh"] = "gelu"
        points: Annotated[int, Range(ge=3, le=4096)] = 16
        bound: PositiveFloat = 4.0
        learned: bool = False
        per_channel: bool = False

    cases = [
        {"function": "silu", "points": 9},
        {"function": "relu", "bound": 2.0},
        {"function": "tanh", "learned": True, "per_channel": True},
    ]

    heights: Tensor
    knots: Tensor

    def __init__(self, config: Config, ctx: BuildContext, width: int):
        super().__init__(config, ctx, width)
        if config.per_channel and not config.learned:
            raise UserError(
                "activation.per_channel: the table is one and fixed with learned=false. Set activation.learned=true too"
            )
        self.function, self.points, self.bound = config.function, config.points, config.bound
        self.gap = 2 * config.bound / (config.points - 1)
        shape = (width if config.per_channel else 1, config.points)
        if config.learned:
            self.heights = nn.Parameter(torch.empty(shape))
        else:
            self.register_buffer("heights", torch.empty(shape), persistent=False)
        self.register_buffer("knots", torch.empty(config.points), persistent=False)

    def init_parameters(self, init: Initialiser) -> None:
        if isinstance(self.heights, nn.Parameter):
            init.values(self.heights, self._table().expand(self.heights.shape), "scalar")

    def init_buffers(self) -> None:
        with torch.no_grad():
            self.knots.copy_(spread(self.points, self.bound, "linear"))
            if not isinstance(self.heights, nn.Parameter):
                self.heights.copy_(self._table())

    def _table(self) -> Tensor:
        return FUNCTIONS[self.function](spread(self.points, self.bound, "linear"))

    def forward(self, x: Tensor) -> Tensor:
        cols = columns(x, self.heights)
        index = place(cols, -self.bound, 1 / self.gap, self.points - 2)
        return restored(on_lines(cols, index, self.gap, self.knots, self.heights), x)

    def hardware_form(self, work: Work) -> dict[str, int]:
        """Torch clamps in one operation, rounds by changing the type, and reads a table for nothing."""
        return {"cmp": -work.elements, "round": -work.elements, "lut": -2 * work.elements}
