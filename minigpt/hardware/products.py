"""How a machine multiplies with weights of each format.

A machine multiplies native numbers, and what ``matrix.products`` names beside them: ``add`` takes weights of -1, 0 and
1, ``int4`` takes integers of up to 4 bits. Narrower integers enter a wider integer product as they are. Every other
format is expanded to native numbers each time a tile of weights enters the array: what it saves is memory and traffic,
never multiply-accumulates, and expanding takes operations of its own.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter

from minigpt.cost import Cost, Matmul
from minigpt.formats import WeightFormat, weight_format
from minigpt.hardware.spec import HardwareSpec
from minigpt.hardware.technology import integer_bits

EXPANSION = "dequantise"  # name of the part that expands the weights of a component


def stored_bits(fmt: str, spec: HardwareSpec) -> float:
    """Bits of one stored weight of a format, its share of a scale included."""
    return float(weight_format(fmt).stored_bits(spec.memory.weight_bits))


def product(fmt: str, spec: HardwareSpec) -> str:
    """The product that weights of a format take on this machine: ``native`` or one of ``matrix.products``."""
    weights, own = weight_format(fmt), spec.matrix.products
    if weights.kind == "sign" and "add" in own:
        return "add"
    if weights.kind != "integer" or weights.code_bits is None:
        return "native"
    wide_enough = [bits for name in own if (bits := integer_bits(name)) is not None and bits >= weights.code_bits]
    return f"int{min(wide_enough)}" if wide_enough else "native"


def expanded(cost: Cost, spec: HardwareSpec) -> Cost:
    """The same tree; what a component does to expand its weights is a part beside it, ``dequantise``."""
    parts = {name: expanded(part, spec) for name, part in cost.parts.items()}
    if ops := _expansion(cost, spec):
        parts[EXPANSION] = Cost(ops=ops)
    return dataclasses.replace(cost, parts=parts)


def _expansion(cost: Cost, spec: HardwareSpec) -> dict[str, int]:
    """Operations that turn a component's own weights into what its products take."""
    ops = Counter[str]()
    for m in cost.matmuls:
        entering = m.repeat * m.k * m.n * math.ceil(m.m / spec.matrix.rows)
        if m.weight_format is not None:
            ops.update(_per_weight(weight_format(m.weight_format), entering, spec))
            ops.update(_per_sum(m, spec))
    multiplied = {m.weight_format for m in cost.matmuls}
    for fmt, count in cost.weights_read.items():
        if fmt not in multiplied:  # looked up, as rows of an embedding
            ops.update(_per_weight(weight_format(fmt), count, spec, looked_up=True))
    return dict(+ops)


def _per_weight(fmt: WeightFormat, count: int, spec: HardwareSpec, looked_up: bool = False) -> dict[str, int]:
    """Unpacking, a table read or a conversion, and the scale where it is not applied to sums."""
    ops = {"mul": count if fmt.packed else 0}
    if fmt.kind == "table":
        ops["lut"] = count
    elif _converted(fmt, spec):
        ops["round"] = count
    if fmt.group and (looked_up or not _scales_sums(fmt, spec)):
        ops["mul"] += count
    return ops


def _per_sum(m: Matmul, spec: HardwareSpec) -> dict[str, int]:
    """Sums of groups are scaled and added where whole numbers were summed: once per group and result."""
    fmt = weight_format(m.weight_format or "native")
    if fmt.group is None or not _scales_sums(fmt, spec):
        return {}
    groups, results = math.ceil(m.k / fmt.group), m.repeat * m.m * m.n
    return {"mul": results * groups, "add": results * (groups - 1)}


def _converted(fmt: WeightFormat, spec: HardwareSpec) -> bool:
    """Whether each weight takes a conversion: a number of another kind, or one that is wider than the product."""
    if fmt.kind == "native" or fmt.name == spec.matrix.arithmetic or product(fmt.name, spec) != "native":
        return False
    native = integer_bits(spec.matrix.arithmetic)
    fits = native is not None and fmt.kind in ("integer", "sign") and (fmt.code_bits or 0) <= native
    return not fits


def _scales_sums(fmt: WeightFormat, spec: HardwareSpec) -> bool:
    """Whether weights are summed as whole numbers, so that a scale waits for the sum of its group."""
    return product(fmt.name, spec) != "native" or integer_bits(spec.matrix.arithmetic) is not None
