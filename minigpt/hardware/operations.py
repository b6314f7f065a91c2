"""Every scalar operation of cost.OPERATIONS in terms of three circuits: an adder, a multiplier, a small table."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping

from minigpt.cost import OPERATIONS
from minigpt.errors import unknown


@dataclasses.dataclass(frozen=True)
class Circuits:
    """How many adder, multiplier and table uses one operation takes."""

    add: int = 0
    multiply: int = 0
    lut: int = 0


ADDER = Circuits(add=1)
MULTIPLIER = Circuits(multiply=1)
TABLE = Circuits(lut=1)
INTERPOLATED = Circuits(
    lut=1, multiply=1, add=1
)  # piecewise linear: table of slopes and offsets, one multiply, one add
NEWTON = Circuits(lut=1, multiply=2, add=1)  # a table's first guess and one Newton step

LANE: dict[str, Circuits] = {
    **dict.fromkeys(("add", "sub", "max", "cmp", "abs", "neg", "select", "round"), ADDER),
    "mul": MULTIPLIER,
}
"""Operations an ordinary vector lane does in one cycle. What is less than an addition is priced as one: from above."""

SPECIAL: dict[str, Circuits] = {
    "lut": TABLE,
    "exp2": INTERPOLATED,
    "log": INTERPOLATED,
    "tanh": INTERPOLATED,
    "erf": INTERPOLATED,
    "exp": Circuits(lut=1, multiply=2, add=1),  # exp2 after a multiplication by log2(e)
    "sin": Circuits(lut=1, multiply=2, add=1),  # after a multiplication by 1 / 2 pi
    "cos": Circuits(lut=1, multiply=2, add=1),
    "recip": NEWTON,
    "rsqrt": NEWTON,
    "sqrt": Circuits(lut=1, multiply=3, add=1),  # x * rsqrt(x)
    "div": Circuits(lut=1, multiply=3, add=1),  # x * recip(y)
}
"""Operations of a special unit, one per cycle and unit, pipelined. The expansions are ours: a common design,
unverified.
"""


def circuits(operation: str) -> Circuits:
    """The expansion of one operation; an operation nobody priced is an error, never free."""
    expansion = LANE.get(operation) or SPECIAL.get(operation)
    if expansion is None:
        raise unknown("cost", operation, "no hardware price for operation", OPERATIONS)
    return expansion


def split(ops: Mapping[str, int]) -> tuple[Counter[str], Counter[str]]:
    """(lane operations, special operations) of a count."""
    lane, special = Counter[str](), Counter[str]()
    for name, count in ops.items():
        circuits(name)
        (lane if name in LANE else special)[name] += count
    return lane, special
