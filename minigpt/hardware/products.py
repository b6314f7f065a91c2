"""How a machine multiplies with weights of each format.

A machine multiplies native numbers, and what ``matrix.products`` names beside them: ``add`` takes weights of -1, 0 and
1. ``int4`` takes whole numbers of up to 4 bits: beside an integer arithmetic those of the weights, activations stay the
machine's own; beside floating point those of both operands. Narrower integers enter a wider integer product as they
are. Every other format is expanded to native numbers each time a tile of weights enters the array: what it saves is
memory and traffic, never multiply-accumulates, and expanding takes operations of its own.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter

from minigpt.cost import Cost, Matmul
from minigpt.formats import WeightFormat, weight_format
from minigpt.hardware.spec import HardwareSpec
from minigpt.hardware.technology import integer_bits

EXPANSION = "expand weights"  # a part of this name; with its space no module's
WHOLE = ("integer", "sign")


def stored_bits(fmt: str, spec: HardwareSpec) -> float:
    """Bits of one stored weight of a format, its share of a scale included."""
    return float(weight_format(fmt).stored_bits(spec.memory.weight_bits))


def product(m: Matmul, spec: HardwareSpec) -> str:
    """What a matrix product is carried out as on this machine: ``native`` or one of ``matrix.products``."""
    if m.weight_format is None:
        return "native"
    fmt, own = weight_format(m.weight_format), spec.matrix.products
    if fmt.kind == "sign" and "add" in own:
        return "add"
    if fmt.kind not in WHOLE or fmt.code_bits is None:
        return "native"
    least = float(fmt.code_bits)
    if integer_bits(spec.matrix.arithmetic) is None:
        least = max(least, math.inf if m.left_bits is None else m.left_bits)
    wide_enough = [bits for name in own if (bits := integer_bits(name)) is not None and bits >= least]
    return f"int{min(wide_enough)}" if wide_enough else "native"


def rate(product: str, spec: HardwareSpec) -> float:
    """Multiply-accumulates of a product in the time of one native one."""
    return 1.0 if product == "native" else spec.matrix.products[product]


def expanded(cost: Cost, spec: HardwareSpec) -> Cost:
    """The same tree; what a component does to expand its weights is a part of its own, :data:`EXPANSION`."""
    parts = {name: expanded(part, spec) for name, part in cost.parts.items()}
    if ops := _expansion(cost, spec):
        parts[EXPANSION] = Cost(ops=ops)
    return dataclasses.replace(cost, parts=parts)


def _expansion(cost: Cost, spec: HardwareSpec) -> dict[str, int]:
    """Operations that turn a component's own weights into what its products take."""
    ops = Counter[str]()
    for m in cost.matmuls:
        if m.weight_format is not None:
            ops.update(_multiplied(m, weight_format(m.weight_format), spec))
    multiplied = {m.weight_format for m in cost.matmuls}
    for name, count in cost.weights_read.items():
        if name not in multiplied:  # looked up, as rows of an embedding
            fmt = weight_format(name)
            ops.update(_as_native(fmt, count, spec))
            ops.update({"mul": count if fmt.group else 0, "add": count if fmt.affine else 0})
    return dict(+ops)


def _multiplied(m: Matmul, fmt: WeightFormat, spec: HardwareSpec) -> Counter[str]:
    """Per weight that enters the array what it takes to expand it; scales and zero points per weight, or per group and
    result where whole numbers were summed: from a sum of products the zero takes itself times the sum of inputs."""
    kind, entering = product(m, spec), m.repeat * m.k * m.n * math.ceil(m.m / spec.matrix.rows)
    ops = Counter({"mul": entering if fmt.packed else 0}) if kind != "native" else _as_native(fmt, entering, spec)
    if kind == "native" and integer_bits(spec.matrix.arithmetic) is None:
        return ops + Counter({"mul": entering if fmt.group else 0, "add": entering if fmt.affine else 0})
    groups, results = math.ceil(m.k / fmt.group) if fmt.group else 1, m.repeat * m.m * m.n
    if fmt.affine:
        ops += Counter({"mul": results * groups, "add": results * groups + m.repeat * m.m * m.k})
    return ops + Counter({"mul": results * groups if fmt.group else 0, "add": results * (groups - 1)})


def _as_native(fmt: WeightFormat, count: int, spec: HardwareSpec) -> Counter[str]:
    """Unpacking, and a table read or a conversion unless the code is a native number as it is."""
    ops = Counter({"mul": count if fmt.packed else 0})
    native = integer_bits(spec.matrix.arithmetic)
    fits = native is not None and fmt.kind in WHOLE and (fmt.code_bits or 0) <= native
    if fmt.kind == "table":
        ops["lut"] += count
    elif fmt.kind != "native" and fmt.name != spec.matrix.arithmetic and not fits:
        ops["round"] += count
    return ops
