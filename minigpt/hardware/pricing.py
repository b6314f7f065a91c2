"""Counts times constants: the energy and time of one component, the area of the chip.

Every function takes the constants as ``values`` (name -> number), so that one value and a thousand draws of it are
priced by the same lines.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from minigpt.hardware.constants import Number
from minigpt.hardware.demand import Demand
from minigpt.hardware.spec import HardwareSpec
from minigpt.hardware.technology import bits, integer_bits
from minigpt.hardware.unit import Unit

PJ_TO_MJ = 1e-9


@dataclasses.dataclass(frozen=True)
class Energy:
    """Where energy goes, in mJ. control: instruction and clock overhead on arithmetic, vector and special work."""

    arithmetic_mj: Number
    vector_mj: Number
    special_mj: Number
    control_mj: Number
    sram_mj: Number
    dram_weights_mj: Number
    dram_cache_mj: Number
    dram_activations_mj: Number
    leakage_mj: Number

    @property
    def total_mj(self) -> Number:
        return sum(getattr(self, name) for name in ENERGY_FIELDS)


ENERGY_FIELDS = tuple(f.name for f in dataclasses.fields(Energy))


@dataclasses.dataclass(frozen=True)
class Latency:
    """Time in seconds. bound: perfect overlap at the full memory bandwidth. calibrated: each component as long as its
    slowest resource, at the bandwidth that is reached, one component after the other. serial: nothing overlaps."""

    bound_s: Number
    calibrated_s: Number
    serial_s: Number


@dataclasses.dataclass(frozen=True)
class Area:
    """Area in mm2, utilisation included. other: the rest of a published die that this model does not explain."""

    array_mm2: Number
    vector_mm2: Number
    special_mm2: Number
    sram_mm2: Number
    phy_mm2: Number
    other_mm2: Number

    @property
    def total_mm2(self) -> Number:
        return sum(getattr(self, name) for name in AREA_FIELDS)


AREA_FIELDS = tuple(f.name for f in dataclasses.fields(Area))


def area(spec: HardwareSpec, units: Iterable[Unit], resident_bits: float, values: Mapping[str, Number]) -> Area:
    """(array x overhead + vector lanes + special units + SRAM) / utilisation + PHY.

    resident_bits: weights and cache that live in SRAM. units: kinds of special unit; there are special_lanes of each.
    """
    vector, to_mm2 = spec.vector, 1e-6 / values["utilisation"]
    macs = spec.macs_per_s / spec.clock_hz
    registers = 4 * bits(vector.format) * values["flip_flop_area"]  # two operands, a result, an accumulator
    lane = values["add_area"] + values["multiply_area"] + values["compare_area"] + registers
    zero = 0 * values["utilisation"]
    special = sum((u.area_um2(values) for u in units), start=zero)
    modelled = Area(
        array_mm2=macs * values["mac_area"] * values["array_overhead"] * to_mm2,
        vector_mm2=vector.lanes * lane * to_mm2,
        special_mm2=vector.special_lanes * special * to_mm2,
        sram_mm2=(8 * spec.memory.sram_bytes + resident_bits) * values["sram_area"] * to_mm2,
        phy_mm2=zero + values["phy_area"],
        other_mm2=zero,
    )
    if "die_area" not in values:
        return modelled
    return dataclasses.replace(modelled, other_mm2=_largest(values["die_area"] - modelled.total_mm2, 0.0))


def energy(c: Demand, spec: HardwareSpec, seconds: Number, chip_mm2: Number, values: Mapping[str, Number]) -> Energy:
    """Energy of one component that takes ``seconds`` on a chip of ``chip_mm2``."""
    zero = 0 * values["sram"]
    arithmetic = sum((count * mac_pj(kind, spec, values) for kind, count in c.macs.items()), start=zero)
    vector = c.adds * values["vector_add"] + c.multiplies * values["vector_multiply"]
    special = values["special_scale"] * (
        c.special_adds * values["vector_add"]
        + c.special_multiplies * values["vector_multiply"]
        + c.special_luts * values["lut_read"]
    )
    return Energy(
        arithmetic_mj=arithmetic * PJ_TO_MJ,
        vector_mj=vector * PJ_TO_MJ,
        special_mj=special * PJ_TO_MJ,
        control_mj=values["control_share"] * (arithmetic + vector + special) * PJ_TO_MJ,
        sram_mj=sram_bits(c, spec) * values["sram"] * PJ_TO_MJ,
        dram_weights_mj=dram_weight_bits(c, spec) * values["dram"] * PJ_TO_MJ,
        dram_cache_mj=dram_cache_bits(c, spec) * values["dram"] * PJ_TO_MJ,
        dram_activations_mj=8 * dram_activation_bytes(c, spec) * values["dram"] * PJ_TO_MJ,
        leakage_mj=values["leakage"] * chip_mm2 * seconds * 1e3,
    )


def mac_pj(product: str, spec: HardwareSpec, values: Mapping[str, Number]) -> Number:
    """Energy of one multiply-accumulate of a product (see products.py): an addition, or a multiplication and an
    addition. With the other operand as wide as it is, a multiplier's energy goes with the width of the narrower one.
    """
    if product == "add":
        return values["accumulate"]
    if product == "native":
        return values["multiply"] + values["accumulate"]
    if integer_bits(spec.matrix.arithmetic) is None:
        return values[f"multiply_{product}"] + values["accumulate_int32"]
    narrower = bits(product) / bits(spec.matrix.arithmetic)
    return values["multiply"] * narrower * values["width_rule"] + values["accumulate"]


@dataclasses.dataclass(frozen=True)
class Times:
    """Resources of one component in seconds. vector: all of it; walked: the part of it that must end before
    the first result; tree: combining the lanes of a reduction."""

    array_s: float
    vector_s: float
    walked_s: float
    tree_s: float
    sram_s: float
    dram_peak_s: float
    dram_s: Number

    @property
    def calibrated_s(self) -> Number:
        """The slowest of what runs side by side, then what nothing hides."""
        streamed = _largest(max(self.array_s, self.vector_s - self.walked_s, self.sram_s), self.dram_s)
        return streamed + self.walked_s + self.tree_s


def times(c: Demand, spec: HardwareSpec, values: Mapping[str, Number]) -> Times:
    """How long each resource is busy with one component.

    A reduction must end before its row's first result: of a function that walks its row p times, the first p - 1
    walks hide behind nothing, nor does the tree that combines the lanes. Without reductions everything streams.
    """
    vector, clock = spec.vector, spec.clock_hz
    vector_s = (c.lane_ops / vector.lanes + c.special_ops / vector.special_lanes) / clock
    walked_s = vector_s * (c.passes - 1) / c.passes if c.reductions and c.passes > 1 else 0.0
    tree_s = c.reductions * math.ceil(math.log2(vector.lanes)) / clock
    dram_bytes = (dram_weight_bits(c, spec) + dram_cache_bits(c, spec)) / 8 + dram_activation_bytes(c, spec)
    peak_s = dram_bytes / spec.bytes_per_s
    return Times(
        array_s=c.array_s, vector_s=vector_s, walked_s=walked_s, tree_s=tree_s,
        sram_s=sram_bits(c, spec) / 8 / (spec.memory.sram_bandwidth_gb_s * 1e9), dram_peak_s=peak_s,
        dram_s=peak_s / values["dram_efficiency"],
    )  # fmt: skip


def stream_into_parents(paths: Sequence[str], parts: Sequence[Times]) -> list[Times]:
    """What streams element by element runs beside the products it feeds: count it there.

    A component without products (a softmax) whose parent has some (its attention) keeps only what cannot overlap: the
    walks and trees of its reductions. The rest competes with the parent's array and memories for the longest time.
    """
    found = list(parts)
    at = {path: index for index, path in enumerate(paths)}
    for index, path in enumerate(paths):
        child, parent = found[index], at.get(path.rpartition(".")[0], index)
        if parent == index or child.array_s or not found[parent].array_s:
            continue
        streamed = child.vector_s - child.walked_s
        found[index] = dataclasses.replace(child, vector_s=child.walked_s, sram_s=0.0)
        found[parent] = dataclasses.replace(
            found[parent], vector_s=found[parent].vector_s + streamed, sram_s=found[parent].sram_s + child.sram_s
        )
    return found


def latency(parts: Iterable[Times]) -> Latency:
    """The step as a whole."""
    parts = list(parts)
    overlapping = ("array_s", "vector_s", "sram_s", "dram_peak_s")
    return Latency(
        bound_s=max(sum(getattr(t, name) for t in parts) for name in overlapping),
        calibrated_s=sum(t.calibrated_s for t in parts),
        serial_s=sum(t.array_s + t.vector_s + t.tree_s + t.sram_s + t.dram_s for t in parts),
    )


def sram_bits(c: Demand, spec: HardwareSpec) -> float:
    """Traffic of the working memory, and of weights that live on chip and are looked up, not multiplied."""
    return c.sram_bits + (c.weight_bits if spec.memory.weights == "sram" and not c.macs else 0.0)


def dram_weight_bits(c: Demand, spec: HardwareSpec) -> float:
    return c.weight_bits if spec.memory.weights == "dram" else 0.0


def dram_cache_bits(c: Demand, spec: HardwareSpec) -> float:
    return c.cache_bits if spec.memory.cache == "dram" else 0.0


def dram_activation_bytes(c: Demand, spec: HardwareSpec) -> float:
    return getattr(c.activations, spec.memory.activations)


def _largest(one: Number, other: Number) -> Number:
    """The larger of two, draw by draw; a plain float when both are."""
    larger = np.maximum(one, other)
    return larger if np.ndim(larger) else float(larger)
