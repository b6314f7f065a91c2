"""An exponential below zero, a polynomial above."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from torch import Tensor

from minigpt.components.base import BuildContext
from minigpt.components.softmax.elementwise import Elementwise, beside_power, power_operations
from minigpt.errors import UserError
from minigpt.registry import register
from minigpt.schema import PositiveFloat, Range, options


@register("softmax", "exppolymax")
class ExpPolyMax(Elementwise):
    """y = f(s) / divisor, f(s) = base^s up to 0, (s + shift)^power + y0 above: it cannot overflow as an exponential
    does.

    shift = (log(base) / power)^(1 / (power - 1)) and y0 = 1 - shift^power make value and slope the same from both sides
    of 0, whatever the base. No paper; in use in ReaLLM-Forge, a fork of nanoGPT. A constant divisor folds into the
    value projection, the base into the exponential.
    """

    @options
    class Config:
        base: Annotated[float, Range(gt=1, le=1e4)] = math.e
        power: Annotated[float, Range(ge=1.05, le=16)] = 2.0
        divisor: PositiveFloat = 1000.0

    cases = [{"base": 2.0}, {"power": 3.0, "divisor": 4.0}, {"power": 1.5}]

    def __init__(self, config: Config, ctx: BuildContext):
        super().__init__(config.divisor)
        self.log_base, self.power = math.log(config.base), config.power
        self.shift = (self.log_base / self.power) ** (1 / (self.power - 1))
        if self.shift**self.power > 100:
            raise UserError(
                f"softmax.power: {config.power:g} with softmax.base={config.base:g} would add {self.shift:.3g} to "
                f"every score above 0, which rounds it away. Take a power further from 1, or a smaller base"
            )
        self.operations = power_operations(self.power) | {"cmp": 3, "select": 1, "add": 2}
        self.operations |= {"exp": self.operations.get("exp", 0) + 1}
        self.beside = beside_power(self.power)
        self.beside |= {"mul": self.beside["mul"] + 1}

    def function(self, scores: Tensor) -> Tensor:
        below = torch.exp(scores.clamp_max(0) * self.log_base)
        above = (scores.relu() + self.shift).pow(self.power) + (1 - self.shift**self.power)
        return torch.where(scores > 0, above, below)
