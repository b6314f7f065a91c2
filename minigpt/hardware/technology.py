"""The published tables at any node and width: interpolation between what was measured, scaling outside it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from minigpt.errors import UserError
from minigpt.hardware import tables
from minigpt.hardware.constants import Constant, within

OLD, NEW = 45.0, 7.0  # nodes (nm) of the two energy tables
FORMAT_BITS = {"fp16": 16, "bf16": 16, "fp32": 32}


def bits(fmt: str) -> int:
    """Width of a number format."""
    return integer_bits(fmt) or FORMAT_BITS[fmt]


def integer_bits(name: str) -> int | None:
    """Width of an integer format (``int4``: 4); None for any other."""
    found = re.fullmatch(r"int(\d+)", name)
    return int(found[1]) if found else None


def between(node_nm: float, at_45: float, at_7: float) -> float:
    """Log-log interpolation: E45 (E7 / E45) ^ (ln(45/n) / ln(45/7)). Outside [7, 45] nm the nearer end, scaled.

    Above 45 nm the Stillmaker-Baas polynomials at nominal voltage carry on; they stop at 7 nm, so below it the 7 nm
    value stays. (Between the two tables these polynomials are 3.7x too low for logic: they are not used there.)
    """
    if node_nm > OLD:
        return at_45 * _stillmaker_energy(node_nm) / _stillmaker_energy(OLD)
    if node_nm < NEW:
        return at_7
    return at_45 * (at_7 / at_45) ** (math.log(OLD / node_nm) / math.log(OLD / NEW))


def measured_range(node_nm: float) -> bool:
    """Whether the energy tables enclose the node."""
    return NEW <= node_nm <= OLD


def operation_pj(operation: str, fmt: str, node_nm: float) -> Constant:
    """Energy of one ``add`` or ``multiply`` in ``fmt``, pJ. Integer widths nobody published: adders linear,
    multipliers quadratic.
    """
    at_45, at_7, source, derived = _operation_anchors(operation, fmt)
    inside = measured_range(node_nm)
    derived = derived and not (fmt == "bf16" and node_nm == NEW)
    how = "" if node_nm in (OLD, NEW) else "; log-log between" if inside else f"; {tables.STILLMAKER}"
    return within(
        2 if inside else 4, between(node_nm, at_45, at_7), "pJ", source + how, verified=inside and not derived
    )


def _operation_anchors(operation: str, fmt: str) -> tuple[float, float, str, bool]:
    """pJ at 45 nm and at 7 nm, the source, and whether one of the two is our derivation."""
    both = f"{tables.HOROWITZ}; {tables.JOUPPI}"
    if (operation, fmt) in tables.OPERATION_PJ:
        at_45, at_7 = tables.OPERATION_PJ[operation, fmt]
        if at_45 is not None:
            return at_45, at_7, both, False
        half_45, half_7 = tables.OPERATION_PJ[operation, "fp16"]
        assert half_45 is not None
        return half_45 * at_7 / half_7, at_7, f"{tables.JOUPPI}; 45 nm as fp16 there times bf16/fp16 at 7 nm", True
    if integer_bits(fmt) is None:
        raise UserError(f"no energy is known for {operation} in {fmt}")
    power = 1 if operation == "add" else 2
    factor = (bits(fmt) / 8) ** power
    at_45, at_7 = tables.OPERATION_PJ[operation, "int8"]
    assert at_45 is not None
    return at_45 * factor, at_7 * factor, f"{both}; width rule from int8", True


def sram_pj_per_bit(capacity_bytes: float, node_nm: float) -> Constant:
    """Energy of reading or writing one bit of an SRAM bank of this capacity, pJ; log-log between the published
    capacities.
    """
    at_45 = _log_log({c: pair[0] for c, pair in tables.SRAM_ACCESS_PJ.items()}, capacity_bytes)
    at_7 = _log_log({c: pair[1] for c, pair in tables.SRAM_ACCESS_PJ.items()}, capacity_bytes)
    sizes = list(tables.SRAM_ACCESS_PJ)
    known = measured_range(node_nm) and sizes[0] <= capacity_bytes <= sizes[-1]
    value = between(node_nm, at_45, at_7) / 64
    return within(3, value, "pJ/bit", f"{tables.HOROWITZ}; {tables.JOUPPI}; 64-bit access", verified=known)


def dram_pj_per_bit(kind: str) -> Constant:
    """Energy of moving one bit to or from DRAM, device and interface, pJ. +-35 % around what is published."""
    low, high, source, verified = tables.DRAM_PJ_PER_BIT[kind]
    return Constant(
        value=math.sqrt(low * high), low=low / 1.35, high=high * 1.35, unit="pJ/bit", source=source, verified=verified
    )


def block_um2(block: str, node_nm: float) -> Constant:
    """Area of a synthesised block at the node, um2; within a factor of 2.5."""
    at_130, at_45 = tables.BLOCK_UM2[block]
    return within(2.5, _scaled_area(at_130, at_45, node_nm), "um2", f"{tables.SYNTHESIS}; {tables.STILLMAKER}")


def add_um2(fmt: str, node_nm: float) -> Constant:
    """Area of an adder, um2. Floating point: the published fp16 adder, linear in the bits of the significand."""
    if f"add_{fmt}" in tables.BLOCK_UM2:
        return block_um2(f"add_{fmt}", node_nm)
    if fmt.startswith("int"):
        return _guess(block_um2("add_int8", node_nm).times(bits(fmt) / 8), "width rule from int8")
    return _float_area("add", {"fp16": 1.0, "bf16": 8 / 11, "fp32": 24 / 11}[fmt], node_nm)


def multiply_um2(fmt: str, node_nm: float) -> Constant:
    """Area of a multiplier, um2. fp32: the published fp16 multiplier, quadratic in the bits of the significand."""
    if f"multiply_{fmt}" in tables.BLOCK_UM2:
        return block_um2(f"multiply_{fmt}", node_nm)
    if fmt.startswith("int"):
        return _guess(block_um2("multiply_int8", node_nm).times((bits(fmt) / 8) ** 2), "width rule from int8")
    return _float_area("multiply", {"fp16": 1.0, "fp32": (24 / 11) ** 2}[fmt], node_nm)


def width_rule() -> Constant:
    """How far the energy of a multiplier strays from the product of its operands' widths, as a factor.

    From 8 x 8 to 32 x 32 bits the rule says 16; published are 15.5 (45 nm) and 21.1 (7 nm).
    """
    return within(1.5, 1.0, "-", "energy by the product of both widths; 15.5 and 21.1 published for 16", verified=False)


def mac_um2(fmt: str, accumulator: str, node_nm: float) -> Constant:
    """Area of a multiplier, its accumulating adder and the accumulator register, um2."""
    if (fmt, accumulator) == ("int8", "int32"):
        return block_um2("mac_int8", node_nm)
    parts = (multiply_um2(fmt, node_nm), add_um2(accumulator, node_nm), flip_flop_um2(node_nm).times(bits(accumulator)))
    value = sum(p.value for p in parts)
    return within(2.5, value, "um2", f"sum of parts: {parts[0].source}", all(p.verified for p in parts))


def flip_flop_um2(node_nm: float) -> Constant:
    """Area of one bit of register, um2."""
    return block_um2("flip_flop", node_nm)


def lut_um2(programmable: bool, node_nm: float) -> Constant:
    """Area of one 16-bit table of a function, um2: constants, or memory that software can write (about 5x)."""
    at_130 = tables.LUT_RAM_UM2_130 if programmable else tables.LUT_ROM_UM2_130
    at_45 = at_130 / _library_ratio()
    return within(2.5, _scaled_area(at_130, at_45, node_nm), "um2", f"{tables.SYNTHESIS}; {tables.STILLMAKER}")


def sram_um2_per_bit(node_nm: float) -> Constant:
    """Area of one bit of SRAM with its share of the macro, um2; +-50 %; a curve of its own, logic scales otherwise."""
    value = _log_log({node: row[1] for node, row in tables.SRAM_UM2_PER_BIT.items()}, node_nm)
    known = min(tables.SRAM_UM2_PER_BIT) <= node_nm <= max(tables.SRAM_UM2_PER_BIT)
    return within(1.5, value, "um2/bit", tables.SRAM_SOURCE, verified=known)


def unit_pj_per_mm2(node_nm: float) -> Constant:
    """Energy that one mm2 of switching logic of a pipelined row unit takes per element, pJ.

    Fitted: published energy per element over the switching area that unit.py counts, geometric mean over the columns
    and units of the ConSmax paper at 130 nm and at 16 nm, log-log in between and beyond.
    """
    value = _log_log({130: 1700.0, 16: 830.0}, node_nm)
    return within(2, value, "pJ/mm2", f"fitted to {tables.CONSMAX_PAPER}", verified=False)


def area_factor(node_nm: float) -> float:
    """Logic area relative to 45 nm."""
    if node_nm <= 45:
        return _log_log(tables.AREA_FROM_45, node_nm)
    return _log_log(tables.AREA_FROM_130, node_nm) / tables.AREA_FROM_130[45]


def _scaled_area(at_130: float, at_45: float, node_nm: float) -> float:
    """From the library whose node is nearer: sky130hd from 65 nm up, Nangate45 below."""
    return at_130 * _log_log(tables.AREA_FROM_130, node_nm) if node_nm > 65 else at_45 * area_factor(node_nm)


def _library_ratio() -> float:
    """Area on sky130hd over area on Nangate45, geometric mean over the blocks synthesised on both."""
    logs = [math.log(a / b) for a, b in tables.BLOCK_UM2.values()]
    return math.exp(sum(logs) / len(logs))


def _float_area(operation: str, factor: float, node_nm: float) -> Constant:
    at_45 = tables.FP16_UM2_45[operation] * factor
    value = _scaled_area(at_45 * _library_ratio(), at_45, node_nm)
    return within(2.5, value, "um2", f"fp16 at 45 nm, ISSCC 2014; by significand bits; {tables.STILLMAKER}", False)


def _guess(constant: Constant, how: str) -> Constant:
    return within(2.5, constant.value, constant.unit, f"{constant.source}; {how}", verified=False)


def _stillmaker_energy(node_nm: float) -> float:
    energies = {node: a * v * v + b * v + c for node, (a, b, c, v) in tables.STILLMAKER_ENERGY.items()}
    return _log_log(energies, node_nm)


def _log_log(points: Mapping[float, float] | Mapping[int, float], x: float) -> float:
    """Piecewise log-log interpolation; beyond the ends the last segment carries on."""
    known = sorted(points.items())
    position = sum(x > key for key, _ in known[1:-1])
    (x0, y0), (x1, y1) = known[position], known[position + 1]
    return y0 * (y1 / y0) ** (math.log(x / x0) / math.log(x1 / x0))
