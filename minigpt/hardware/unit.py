"""A row-wise or element-wise function (softmax, norm, activation) as a pipelined unit of its own: area, energy per
element.

Built from the component's own operation counts, without knowing which component it is. A unit takes one element per
cycle; what happens once per row shares one sequential divider. A function that walks its row more than twice keeps
the row inside (score and intermediate result, both): the last walk may come from working memory, the ones before it
may not. The buffer rule and the share of time that tables and buffers switch were chosen so that three published
units (ConSmax, Softermax, softmax; ICCAD 2024, table I) come out: see tests/hardware/test_unit.py. Energy is
switching area times a density fitted to the same table, so it is a calibrated model for units like these, not a
prediction from first principles.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from minigpt.cost import Cost
from minigpt.hardware import operations, technology
from minigpt.hardware.constants import Number
from minigpt.hardware.spec import HardwareSpec

COMPARED = frozenset({"max", "cmp", "select", "abs", "neg", "round"})


@dataclasses.dataclass(frozen=True)
class Unit:
    """What one unit is made of. buffer_bits: registers that hold rows."""

    adders: int
    multipliers: int
    comparators: int
    tables: int
    dividers: int
    buffer_bits: int

    def area_um2(self, values: Mapping[str, Number]) -> Number:
        """Cell area of the unit."""
        return self._logic_um2(values) + self._memory_um2(values)

    def energy_pj(self, values: Mapping[str, Number]) -> Number:
        """Energy per element: switching area times the fitted density; tables and buffers switch less often than
        logic.
        """
        switching_um2 = self._logic_um2(values) + values["memory_activity"] * self._memory_um2(values)
        return switching_um2 * 1e-6 * values["unit_energy"]

    def _logic_um2(self, values: Mapping[str, Number]) -> Number:
        return (
            self.adders * values["add_area"]
            + self.multipliers * values["multiply_area"]
            + self.comparators * values["compare_area"]
            + self.dividers * values["divide_area"]
        )

    def _memory_um2(self, values: Mapping[str, Number]) -> Number:
        return self.tables * values["lut_area"] + self.buffer_bits * values["flip_flop_area"]


def elements(cost: Cost) -> int:
    """Elements that go through a component: half of what it reads and writes, or its most frequent operation.

    Beside matrix products (a softcap, a quantiser) what is read and written is theirs, so the operations alone tell.
    """
    most = max(cost.ops.values(), default=0)
    return most if cost.matmuls else cost.activations // 2 or most


def unit(cost: Cost, spec: HardwareSpec) -> Unit | None:
    """The unit that does a component's own operations; None when a vector lane is enough."""
    _, special = operations.split(cost.ops)
    n = elements(cost)
    if not special.total() or not n:
        return None
    made = dict.fromkeys(("adders", "multipliers", "comparators", "tables", "dividers"), 0)
    for name, count in cost.ops.items():
        if 2 * count < n:  # once per row, not per element
            made["dividers"] = made["dividers"] or int(name in special)
            continue
        copies = max(1, round(count / n))
        if name in COMPARED:
            made["comparators"] += copies
            continue
        uses = operations.circuits(name)
        made["adders"] += copies * uses.add
        made["multipliers"] += copies * uses.multiply
        made["tables"] += copies * uses.lut
    rows_held = max(0, cost.passes - 2)
    width = 2 * technology.bits(spec.vector.format)
    return Unit(**made, buffer_bits=rows_held * spec.vector.row_length * width)


def distinct_units(cost: Cost, spec: HardwareSpec) -> tuple[Unit, ...]:
    """One of each kind of unit a model needs: layers share them."""
    found = {made: None for _, own in cost.walk() if (made := unit(own, spec)) is not None}
    return tuple(found)
