"""A constant of physics or of a data sheet: its value, how sure we are, and who says so."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from minigpt.errors import UserError
from minigpt.schema import NonNegativeFloat, options

Z_95 = 1.959964  # standard deviations that hold 95 % of a normal distribution

Number: TypeAlias = Any
"""A float, or an array (draws,) with one value per draw of the constants: pricing is written once for both."""

NEUTRAL_ONE = frozenset({"dram_efficiency", "array_overhead", "utilisation"})
"""Constants that multiply or divide a result; all others add to one. Without the constant: 1 or 0."""

AT_MOST_ONE = frozenset({"dram_efficiency", "utilisation"})


@options
class Constant:
    """value with the interval [low, high] that holds 95 % of our belief, log-normal.

    verified: two independent texts agree on it, or it was computed by us from such. Everything else is said to be
    unverified.
    """

    value: NonNegativeFloat
    low: NonNegativeFloat
    high: NonNegativeFloat
    unit: str
    source: str
    verified: bool

    def __post_init__(self):
        if not self.low <= self.value <= self.high:
            raise UserError(
                f"constant {self.value} {self.unit} lies outside its own interval [{self.low}, {self.high}]"
            )

    def times(self, factor: float) -> Constant:
        """The same constant in another unit or for another width."""
        return Constant(
            value=self.value * factor, low=self.low * factor, high=self.high * factor,
            unit=self.unit, source=self.source, verified=self.verified,
        )  # fmt: skip

    def plus(self, other: Constant) -> Constant:
        """The sum of two constants of one unit, both as far off as they may be."""
        return Constant(
            value=self.value + other.value, low=self.low + other.low, high=self.high + other.high, unit=self.unit,
            source=self.source if self.source == other.source else f"{self.source} + {other.source}",
            verified=self.verified and other.verified,
        )  # fmt: skip


def within(factor: float, value: float, unit: str, source: str, verified: bool = True) -> Constant:
    """A constant known to within ``factor``: [value / factor, value * factor]."""
    return Constant(value=value, low=value / factor, high=value * factor, unit=unit, source=source, verified=verified)


def nominal(constants: Mapping[str, Constant]) -> dict[str, float]:
    """name -> value."""
    return {name: c.value for name, c in constants.items()}


def only_verified(constants: Mapping[str, Constant]) -> dict[str, float]:
    """name -> value, every unverified constant replaced by its neutral element: what is left rests on verified ones."""
    neutral = {name: 1.0 if name in NEUTRAL_ONE else 0.0 for name in constants}
    return {name: c.value if c.verified else neutral[name] for name, c in constants.items()}


def draw(constants: Mapping[str, Constant], draws: int, seed: int) -> dict[str, NDArray[np.float64]]:
    """name -> (draws,) values. One generator per name: two models on one hardware see the very same constants."""
    return {name: _draw_one(name, c, draws, seed) for name, c in constants.items()}


def _draw_one(name: str, constant: Constant, draws: int, seed: int) -> NDArray[np.float64]:
    z = np.random.default_rng([seed, zlib.crc32(name.encode())]).standard_normal(draws)
    if constant.value == 0 or constant.low == 0:
        return np.full(draws, constant.value)
    up, down = math.log(constant.high / constant.value), math.log(constant.value / constant.low)
    values = constant.value * np.exp(z / Z_95 * np.where(z > 0, up, down))
    return np.minimum(values, 1.0) if name in AT_MOST_ONE else values
