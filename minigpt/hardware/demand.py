"""What one component demands of one machine, in counts: products, scalar operations, bits moved. No constants yet."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

from minigpt.cost import Cost, Matmul
from minigpt.hardware import operations, products
from minigpt.hardware.spec import HardwareSpec

ARITY = dict.fromkeys(("add", "sub", "mul", "div", "max", "cmp", "select"), 3)
"""Elements an operation of its own moves, in and out; all others move two."""


@dataclasses.dataclass(frozen=True)
class ActivationBytes:
    """Activation bytes that reach the DRAM, three ways. unfused: every operation is a kernel of its own. fused: every
    component is one. on_chip: results wait in SRAM; what one component reads and writes spills whole if it does not
    fit."""

    unfused: float
    fused: float
    on_chip: float


@dataclasses.dataclass(frozen=True)
class Demand:
    """One component, or several added up, on one machine.

    macs: product -> multiply-accumulates that are carried out, see products.py. adds, multiplies, luts: uses of a
    vector lane's circuits; special_*: those inside special operations. lane_ops, special_ops: cycles they occupy one
    lane.
    """

    macs: Mapping[str, float]
    array_s: float
    adds: int
    multiplies: int
    special_adds: int
    special_multiplies: int
    special_luts: int
    lane_ops: int
    special_ops: int
    sram_bits: float
    weight_bits: float
    cache_bits: float
    activations: ActivationBytes
    reductions: int
    passes: int


def demand(cost: Cost, spec: HardwareSpec) -> Demand:
    """Count what a component's own cost means on this machine; its parts are left to the caller."""
    lane, special = operations.split(cost.ops)
    uses = {name: operations.circuits(name) for name in cost.ops}
    weight_bits = sum(n * products.stored_bits(fmt, spec) for fmt, n in cost.weights_read.items())
    cache_bits = float(cost.state_read_bits + cost.state_written_bits)
    activations = activation_bytes(cost, spec)
    operands = sum(_operand_bits(m, spec) for m in cost.matmuls)
    filled = (weight_bits if spec.memory.weights == "dram" else 0) + (cache_bits if spec.memory.cache == "dram" else 0)
    macs: dict[str, float] = {}
    for m in cost.matmuls:
        kind = products.product(m, spec)
        macs[kind] = macs.get(kind, 0) + m.repeat * m.m * m.k * m.n * done_share(m, spec)
    return Demand(
        macs=macs,
        array_s=sum(array_seconds(m, spec) for m in cost.matmuls),
        adds=sum(n * uses[name].add for name, n in lane.items()),
        multiplies=sum(n * uses[name].multiply for name, n in lane.items()),
        special_adds=sum(n * uses[name].add for name, n in special.items()),
        special_multiplies=sum(n * uses[name].multiply for name, n in special.items()),
        special_luts=sum(n * uses[name].lut for name, n in special.items()),
        lane_ops=lane.total(),
        special_ops=special.total(),
        sram_bits=operands + filled + _streamed_bits(cost, spec),
        weight_bits=weight_bits,
        cache_bits=cache_bits,
        activations=activations,
        reductions=cost.reductions,
        passes=cost.passes,
    )


def fused_with_parents(paths: Sequence[str], parts: Sequence[Demand]) -> list[Demand]:
    """What streams beside the products of its parent (a softmax in its attention) shares the parent's kernel.

    Its inputs and results then never reach the DRAM, unless every operation is a kernel of its own.
    """
    at = dict(zip(paths, parts, strict=True))
    found = []
    for path, part in zip(paths, parts, strict=True):
        parent = at.get(path.rpartition(".")[0], part)
        if path and parent is not part and parent.macs and not part.macs:
            within = ActivationBytes(unfused=part.activations.unfused, fused=0.0, on_chip=0.0)
            part = dataclasses.replace(part, activations=within)
        found.append(part)
    return found


def stored_weight_bits(total: Cost, spec: HardwareSpec) -> float:
    """Bits of all weights of a model, each kept in its own format."""
    narrow = sum(total.narrow_params.values())
    kept = {"native": total.params - narrow} | dict(total.narrow_params)
    return sum(n * products.stored_bits(fmt, spec) for fmt, n in kept.items())


def done_share(m: Matmul, spec: HardwareSpec) -> float:
    """Share of repeat x m x k x n that the machine carries out: the useful ones if it skips what is masked."""
    full = m.repeat * m.m * m.k * m.n
    return m.macs / full if spec.matrix.skips_masked and full else 1.0


def systolic_cycles(m: int, k: int, n: int, rows: int, columns: int) -> int:
    """Cycles of (m x k) @ (k x n) on an output-stationary array: ceil(m/R) ceil(n/C) (R + C + k - 2) - 1, as
    SCALE-Sim.
    """
    return math.ceil(m / rows) * math.ceil(n / columns) * (rows + columns + k - 2) - 1


def array_seconds(m: Matmul, spec: HardwareSpec) -> float:
    """Time of the products alone: systolic cycles, tiles dealt out to all arrays, or FLOPs over the peak."""
    engine = spec.matrix
    done, rate = done_share(m, spec), products.rate(products.product(m, spec), spec)
    if m.repeat * m.m * m.k * m.n == 0:
        return 0.0
    if engine.peak_tflops is not None:
        return m.repeat * m.m * m.k * m.n * done / (rate * spec.macs_per_s)
    tiles = m.repeat * math.ceil(m.m / engine.rows) * math.ceil(m.n / engine.columns)
    tiles_each = math.ceil(tiles * done / engine.count)
    return (tiles_each * (engine.rows + engine.columns + m.k - 2) - 1) / (rate * spec.clock_hz)


def activation_bytes(cost: Cost, spec: HardwareSpec) -> ActivationBytes:
    """Traffic of one component's activations if they went through memory, per operation and per component.

    What a product takes from a cache or state (keys and values) or leaves there is cache traffic, not counted again.
    """
    moved = 0
    for m in cost.matmuls:
        right = m.k * m.n if m.weight_format is None and m.right_bits is None else 0
        result = m.m * m.n if m.result_bits is None else 0
        moved += m.repeat * (m.m * m.k + right + result)
    singly = moved + sum(n * ARITY.get(name, 2) for name, n in cost.ops.items())
    size = spec.memory.activation_bits / 8
    fused = cost.activations * size
    spilled = fused if fused > spec.memory.sram_bytes else 0.0
    return ActivationBytes(unfused=max(singly * size, fused), fused=fused, on_chip=spilled)


def _operand_bits(m: Matmul, spec: HardwareSpec) -> float:
    """SRAM traffic of a product in tiles of rows x columns: an operand once per tile of the other, the result once."""
    activation = spec.memory.activation_bits
    width = products.stored_bits(m.weight_format, spec) if m.weight_format else m.right_bits or activation
    left = m.m * m.k * math.ceil(m.n / spec.matrix.columns) * min(m.left_bits or activation, activation)
    right = m.k * m.n * math.ceil(m.m / spec.matrix.rows) * width
    result = m.m * m.n * (m.result_bits or activation)
    return m.repeat * done_share(m, spec) * (left + right + result)


def _streamed_bits(cost: Cost, spec: HardwareSpec) -> float:
    """SRAM traffic beside the products: what goes in and out once, and the rows again for every further walk."""
    row_elements = sum(m.repeat * m.m * m.k for m in cost.matmuls) or cost.activations / 2
    again = max(0, cost.passes - 1) * row_elements
    once = 0 if cost.matmuls else cost.activations
    return (once + again) * spec.memory.activation_bits
