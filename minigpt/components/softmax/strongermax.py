"""Softmax with every constant in reach: base, temperature, what is added to the sum, divisor."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from torch import Tensor, nn

from minigpt.components.base import BuildContext
from minigpt.components.initialiser import Initialiser
from minigpt.components.softmax.base import Softmax, softmax_beside
from minigpt.components.softmax.elementwise import without_masked
from minigpt.cost import Cost, Work
from minigpt.errors import UserError
from minigpt.registry import register
from minigpt.schema import NonNegativeFloat, PositiveFloat, Range, options


@register("softmax", "strongermax")
class StrongerMax(Softmax):
    """y = e / (obo + sum(e)) / divisor, e = strength^(s / temperature).

    No paper; in use in ReaLLM-Forge, a fork of nanoGPT. sum_to_one: without it y = e / divisor, and nothing waits for a
    row's sum. use_xmax: the row's maximum is subtracted from s. Beside a sum that cancels, as obo too becomes obo
    strength^(-max / temperature), and only keeps e in range; without a sum it changes y. A constant divisor folds into
    the value projection, strength and temperature into the exponential or the query's matrix.

    learn_temperature, learn_obo: learns this number, stored as its logarithm, from the value given: (1,) each.
    """

    normalised = True
    reductions = 2

    @options
    class Config:
        strength: Annotated[float, Range(gt=1, le=1e4)] = math.e
        use_xmax: bool = True
        divisor: PositiveFloat = 1.0
        sum_to_one: bool = True
        obo: NonNegativeFloat = 0.0
        learn_obo: bool = False
        temperature: Annotated[float, Range(ge=1e-4, le=1e4)] = 1.0
        learn_temperature: bool = False

    cases = [
        {"strength": 2.0, "divisor": 2.0},
        {"use_xmax": False, "temperature": 2.0},
        {"use_xmax": False, "obo": 0.5},
        {"obo": 2.0, "learn_obo": True, "temperature": 0.5, "learn_temperature": True},
        {"sum_to_one": False},
        {"sum_to_one": False, "use_xmax": False, "divisor": 4.0},
    ]
    changes = {"use_xmax": "work", "learn_obo": "gradient", "learn_temperature": "gradient"}

    def __init__(self, config: Config, ctx: BuildContext):
        super().__init__()
        if not config.sum_to_one and config.obo:
            raise UserError("softmax.obo: is added to a sum that softmax.sum_to_one=false leaves out. Leave it at 0")
        if config.learn_obo and not config.obo:
            raise UserError("softmax.learn_obo: starts from softmax.obo, which must be above 0. Set softmax.obo=1")
        self.config = config
        self.log_temperature = nn.Parameter(torch.empty(1)) if config.learn_temperature else None
        self.log_obo = nn.Parameter(torch.empty(1)) if config.learn_obo else None
        self.rate = math.log(config.strength) / config.temperature
        self.normalised = config.sum_to_one and not config.obo and config.divisor == 1
        self.reductions = config.use_xmax + config.sum_to_one

    def init_parameters(self, init: Initialiser) -> None:
        if self.log_temperature is not None:
            init.constant(self.log_temperature, math.log(self.config.temperature), "scalar")
        if self.log_obo is not None:
            init.constant(self.log_obo, math.log(self.config.obo), "scalar")

    def forward(self, scores: Tensor) -> Tensor:
        weights = (
            self._summed(self._exponent(scores)) if self.config.sum_to_one else self._alone(self._exponent(scores))
        )
        return weights if self.config.divisor == 1 else weights / self.config.divisor

    def _exponent(self, scores: Tensor) -> Tensor:
        """Of e: log(strength) s / temperature."""
        if self.log_temperature is None:
            return scores if self.rate == 1 else scores * self.rate
        visible, masked = without_masked(scores)  # a gradient through -inf / temperature would be NaN
        rate = math.log(self.config.strength) * torch.exp(-self.log_temperature)
        return (visible * rate).masked_fill(masked, -math.inf)

    def _summed(self, exponent: Tensor) -> Tensor:
        if not self.config.use_xmax:
            powers = torch.exp(exponent)
            total = powers.sum(dim=-1, keepdim=True)
            if self.config.obo:
                total = total + (self.config.obo if self.log_obo is None else self.log_obo.exp())
            return powers / total
        if not self.config.obo:
            return torch.softmax(exponent, dim=-1)
        return softmax_beside(exponent, self._obo(exponent))

    def _alone(self, exponent: Tensor) -> Tensor:
        if self.config.use_xmax:
            exponent = exponent - exponent.amax(dim=-1, keepdim=True)
        return torch.exp(exponent)

    def _obo(self, like: Tensor) -> Tensor:
        """log(obo): (1,)."""
        return like.new_full((1,), math.log(self.config.obo)) if self.log_obo is None else self.log_obo

    def hardware_form(self, work: Work) -> dict[str, int]:
        """Torch scales every score and divides every weight, by the sum and by the constant; in hardware the scale is
        folded into the query's matrix, the divisor into the value's, and a sum is one reciprocal per row."""
        n, config = work.elements, self.config
        scaled = self.log_temperature is not None or self.rate != 1
        beside = work.rows * (config.obo > 0 and config.use_xmax)  # torch divides the further weight, too
        recip = -work.rows * config.sum_to_one
        return {"mul": n * (scaled + (config.divisor != 1)) + beside, "recip": recip}

    def cost(self, work: Work) -> Cost:
        n, rows, config = work.elements, work.rows, self.config
        params, added = self.own_params(), rows * (config.obo > 0)
        shifted = added if config.use_xmax else 0  # obo takes part in the maximum, and is scaled as a score is
        ops = {"exp": n + shifted}
        if config.use_xmax:
            ops |= {"max": n + shifted, "sub": n + shifted}
        if config.sum_to_one:
            ops |= {"add": n + added, "mul": n, "recip": rows}
        return Cost(
            params=params,
            weights_read={"native": params} if params else {},
            ops=ops,
            activations=2 * n,
            reductions=self.reductions,
            passes=1 + self.reductions,
        )
