"""Rotary position embedding."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from torch import Tensor

from minigpt.components.base import BuildContext
from minigpt.components.position.base import Place
from minigpt.components.position.rotary import Rotary
from minigpt.errors import UserError
from minigpt.registry import register
from minigpt.schema import PositiveFloat, PositiveInt, Range, options


@register("position", "rope")
class RotaryPosition(Rotary):
    """(y_i, y_j) = (x_i cos a - x_j sin a, x_j cos a + x_i sin a): each pair i, j = i + r/2 of a head is turned by the
    angle a = t theta^(-2i/r).  Su et al. 2021, arXiv:2104.09864.

    Scores then depend on the distance of two tokens alone. r = fraction * width dimensions are turned (the first ones),
    the rest pass. Tables of sine and cosine are kept in fp32 for block_size positions; nothing is learned.

    scaling lets a model trained on shorter texts reach ``factor`` times as far. linear: frequencies divided by it
    (Chen et al. 2023, arXiv:2306.15595). ntk: theta grows by factor^(r/(r-2)), so that only the lowest frequency is
    divided by all of it. yarn: divided where a pair turns fewer than ``beta_slow`` times in ``original_length`` tokens,
    kept where it turns more than ``beta_fast`` times, a ramp between; queries and keys grow by 0.1 ln(factor) + 1
    (Peng et al. 2023, arXiv:2309.00071).
    """

    @options
    class Config:
        theta: Annotated[float, Range(ge=1)] = 10000.0
        fraction: Annotated[float, Range(gt=0, le=1)] = 1.0
        scaling: Literal["none", "linear", "ntk", "yarn"] = "none"
        factor: Annotated[float, Range(gt=1)] | None = None
        original_length: PositiveInt | None = None
        beta_fast: PositiveFloat = 32.0
        beta_slow: PositiveFloat = 1.0

    cases = [
        {"theta": 100.0},
        {"fraction": 0.5},
        {"scaling": "linear", "factor": 4.0},
        {"scaling": "ntk", "factor": 4.0},
        {"scaling": "yarn", "factor": 8.0, "original_length": 4096, "beta_fast": 128.0, "beta_slow": 8.0},
    ]

    def __init__(self, config: Config, ctx: BuildContext, serves: frozenset[Place], width: int):
        super().__init__(config, ctx, serves, width, config.fraction)
        self.theta, self.config = config.theta, config
        self.factor, self.original_length = config.factor or 1.0, config.original_length or 1
        _refuse_idle(config, self.turned)
        if config.scaling == "yarn":
            self.size = 0.1 * math.log(self.factor) + 1

    def frequencies(self) -> Tensor:
        scaling, r = self.config.scaling, self.turned
        exponent = torch.arange(0, r, 2, dtype=torch.float64) / r
        if scaling == "none":
            return self.theta**-exponent
        if scaling == "linear":
            return self.theta**-exponent / self.factor
        if scaling == "ntk":
            return (self.theta * self.factor ** (r / (r - 2))) ** -exponent
        kept = self.theta**-exponent
        return torch.lerp(kept, kept / self.factor, self._ramp())

    def _ramp(self) -> Tensor:
        """(r/2,) how much of yarn's division each pair gets, from 0 for the fastest to 1."""
        low = max(math.floor(self._pair_that_turns(self.config.beta_fast)), 0)
        high = min(math.ceil(self._pair_that_turns(self.config.beta_slow)), self.turned - 1)
        pair = torch.arange(self.turned // 2, dtype=torch.float64)
        return ((pair - low) / max(high - low, 0.001)).clamp(0, 1)

    def _pair_that_turns(self, times: float) -> float:
        """Number of the pair that turns so many times in the original length, not rounded."""
        length = self.original_length / (2 * math.pi * times)
        return self.turned * math.log(length) / (2 * math.log(self.theta))


def _refuse_idle(config: RotaryPosition.Config, turned: int) -> None:
    """Raise UserError for options that do nothing beside others, or are missing beside them."""
    scaling = config.scaling
    if scaling == "none":
        if config.factor is not None:
            raise UserError("position.factor: does nothing with position.scaling=none. Choose linear, ntk or yarn")
    elif config.factor is None:
        raise UserError(
            f"position.scaling: {scaling} needs a factor: how many times as far as it was trained for it is to reach. "
            f"Set position.factor"
        )
    if scaling != "yarn":
        for option, default in (("original_length", None), ("beta_fast", 32.0), ("beta_slow", 1.0)):
            if getattr(config, option) != default:
                raise UserError(
                    f"position.{option}: does nothing with position.scaling={scaling}. Choose position.scaling=yarn"
                )
    elif config.original_length is None:
        raise UserError("position.scaling: yarn needs the length trained for. Set position.original_length")
    elif config.beta_fast <= config.beta_slow:
        raise UserError(
            f"position.beta_fast: {config.beta_fast} turns are no more than position.beta_slow={config.beta_slow}. "
            f"Take more, 32 and 1 are usual"
        )
    elif config.theta == 1:
        raise UserError("position.theta: 1 turns every pair alike, so yarn has no slow ones to divide. Take more")
    if scaling == "ntk" and turned == 2:
        raise UserError(
            "position.scaling: ntk keeps the fastest pair as it is, and only one is turned. Take a larger "
            "position.fraction or head_dim, or scaling=linear"
        )
