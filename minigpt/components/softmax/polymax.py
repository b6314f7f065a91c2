"""A polynomial in place of the exponential."""

from __future__ import annotations

from typing import Annotated

from torch import Tensor

from minigpt.components.base import BuildContext
from minigpt.components.softmax.elementwise import Elementwise, beside_power, chosen_divisor, power_operations
from minigpt.registry import register
from minigpt.schema import PositiveFloat, Range, options


@register("softmax", "polymax")
class PolyMax(Elementwise):
    """y = f(s) / divisor, f(s) = 0 below x0, y0 (1 - s / x0) from there up to s = 0, s^power + y0 above.

    Continuous everywhere. No paper; in use in ReaLLM-Forge, a fork of nanoGPT. x_intercept: x0. y_intercept: y0.
    divisor: None is 1000, or 1 with ``length_scale``, which divides each row by the number of keys it may see. A
    constant divisor folds into the value projection.
    """

    @options
    class Config:
        x_intercept: Annotated[float, Range(ge=-1e4, le=-1e-4)] = -100.0
        y_intercept: Annotated[float, Range(gt=0, le=1e4)] = 1.0
        power: Annotated[float, Range(ge=1, le=16)] = 2.0
        divisor: PositiveFloat | None = None
        length_scale: bool = False

    cases = [
        {"x_intercept": -0.5, "divisor": 4.0},
        {"y_intercept": 0.25, "power": 3.0, "divisor": 4.0},
        {"power": 1.5, "length_scale": True},
    ]

    def __init__(self, config: Config, ctx: BuildContext):
        super().__init__(chosen_divisor(config.divisor, config.length_scale, 1000.0), config.length_scale)
        self.x_intercept, self.y_intercept, self.power = config.x_intercept, config.y_intercept, config.power
        raised = power_operations(config.power)
        self.operations = raised | {"cmp": 3, "mul": raised.get("mul", 0) + 1, "add": 2}
        self.beside = beside_power(config.power)

    def function(self, scores: Tensor) -> Tensor:
        slope = -self.y_intercept / self.x_intercept
        line = (scores.clamp_max(0) * slope + self.y_intercept).relu()  # y0 from s = 0 on
        return line + scores.relu().pow(self.power)
