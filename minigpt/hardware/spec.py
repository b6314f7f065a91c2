"""What a hardware is: the schema of ``conf/hardware/*.yaml``, and the constants that follow from it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml

from minigpt.errors import UserError, unknown
from minigpt.files import read_text
from minigpt.hardware import technology
from minigpt.hardware.constants import Constant
from minigpt.schema import Fraction, PositiveFloat, PositiveInt, options, typed
from minigpt.shipped import CONF

FOLDER = CONF / "hardware"
LARGEST = 1 << 20
"""Bytes of the largest file that describes a machine."""

Format = Literal["int4", "int8", "int16", "bf16", "fp16", "fp32"]
Accumulator = Literal["int32", "fp16", "bf16", "fp32"]
Home = Literal["dram", "sram"]


@options
class MatrixEngine:
    """What multiplies matrices.

    rows, columns: output-stationary systolic array, or with ``peak_tflops`` the tile a core keeps in its registers:
    both set how often an operand is read from SRAM. count: arrays that share the work. peak_tflops: None times the
    systolic array cycle by cycle; a number is a roofline (GPUs). skips_masked: masked (query, key) tiles are not
    computed; otherwise every product of a causal attention costs in full. products: what it multiplies beside its own
    arithmetic, and how many in the time of one: ``add`` (weights of -1, 0, 1), ``int<bits>``; see products.py.
    """

    rows: PositiveInt
    columns: PositiveInt
    count: PositiveInt = 1
    peak_tflops: PositiveFloat | None = None
    arithmetic: Format
    accumulator: Accumulator
    skips_masked: bool = True
    products: Mapping[str, PositiveFloat] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        widest = technology.integer_bits(self.arithmetic) or 17
        choices = ["add", *(f"int{bits}" for bits in range(2, widest))]
        for product in self.products:
            if product not in choices:
                raise unknown("matrix.products", product, f"no product beside {self.arithmetic} is", choices)


@options
class VectorEngine:
    """What does everything else. format: of its numbers. lanes: add, multiply, compare. special_lanes: exp, recip,
    tables.

    row_length: elements a row unit (softmax, norm) buffers when it has to walk a row again. programmable_lut: tables
    that software can write, about five times the area of constants.
    """

    format: Format
    lanes: PositiveInt
    special_lanes: PositiveInt
    row_length: PositiveInt = 256
    programmable_lut: bool = False


@options
class Memory:
    """sram_bytes: working memory on chip, in banks of bank_bytes, all together sram_bandwidth. dram: kind, which sets
    pJ/bit. bandwidth: peak of the DRAM.

    weights, cache: where they live; what lives in SRAM gets SRAM of its own beside the working memory.
    activations: how many of their bytes reach the DRAM: none (on_chip), in and out of every component (fused), or of
    every single operation (unfused).
    """

    sram_bytes: PositiveInt
    bank_bytes: PositiveInt
    sram_bandwidth_gb_s: PositiveFloat
    dram: Literal["ddr4", "lpddr4", "lpddr5", "hbm2", "hbm3", "gddr6"]
    bandwidth_gb_s: PositiveFloat
    weights: Home = "dram"
    cache: Home = "dram"
    activations: Literal["on_chip", "fused", "unfused"] = "on_chip"
    weight_bits: PositiveInt
    activation_bits: PositiveInt
    cache_bits: PositiveInt


@options
class ChipConstants:
    """Constants of this chip; those of its technology follow from the node.

    dram_efficiency: share of the peak bandwidth that decode reaches. control_share: energy of control per energy of
    arithmetic. leakage: static power per area. array_overhead: area of the array over the sum of its
    multiply-accumulates. utilisation: share of the placed area that is cells. phy_area: memory interface and pads.
    die_area: published, if the chip exists; the model then only splits it.
    """

    dram_efficiency: Constant
    control_share: Constant
    leakage: Constant
    array_overhead: Constant
    utilisation: Constant
    phy_area: Constant
    die_area: Constant | None = None

    def __post_init__(self):
        for name in ("dram_efficiency", "utilisation"):
            if not 0 < getattr(self, name).value <= 1:
                raise UserError(f"constants.{name}: expected a share above 0 and at most 1")


@options
class HardwareSpec:
    """One machine. Read from ``conf/hardware/<name>.yaml`` by :func:`load`."""

    name: str
    description: str
    node_nm: PositiveFloat
    clock_mhz: PositiveFloat
    tdp_w: PositiveFloat
    matrix: MatrixEngine
    vector: VectorEngine
    memory: Memory
    constants: ChipConstants
    draws: PositiveInt = 1000
    confidence: Fraction = 0.95
    seed: int = 0

    def __post_init__(self):
        power = self.peak_arithmetic_w
        if power >= self.tdp_w:
            raise UserError(
                f"hardware {self.name}: arithmetic alone would take {power:.3g} W at peak, "
                f"but tdp_w is {self.tdp_w:g}; check peak, clock, array and node"
            )

    @property
    def macs_per_s(self) -> float:
        """Peak multiply-accumulates per second."""
        if self.matrix.peak_tflops is not None:
            return self.matrix.peak_tflops * 1e12 / 2
        return self.matrix.rows * self.matrix.columns * self.matrix.count * self.clock_hz

    @property
    def clock_hz(self) -> float:
        return self.clock_mhz * 1e6

    @property
    def bytes_per_s(self) -> float:
        """Peak DRAM bandwidth."""
        return self.memory.bandwidth_gb_s * 1e9

    @property
    def peak_arithmetic_w(self) -> float:
        """Power of the multiply-accumulates alone when every one is busy: must stay below the TDP."""
        multiply = technology.operation_pj("multiply", self.matrix.arithmetic, self.node_nm)
        accumulate = technology.operation_pj("add", self.matrix.accumulator, self.node_nm)
        return self.macs_per_s * (multiply.value + accumulate.value) * 1e-12

    @functools.cached_property
    def all_constants(self) -> dict[str, Constant]:
        """name -> constant: everything uncertain that a result of this machine rests on."""
        node, matrix, vector, memory = self.node_nm, self.matrix, self.vector, self.memory
        found = {
            "multiply": technology.operation_pj("multiply", matrix.arithmetic, node),
            "accumulate": technology.operation_pj("add", matrix.accumulator, node),
            "vector_add": technology.operation_pj("add", vector.format, node),
            "vector_multiply": technology.operation_pj("multiply", vector.format, node),
            "lut_read": self._lut_read(),
            "special_scale": Constant(
                value=1, low=0.5, high=2, unit="-", source="expansions in operations.py", verified=False
            ),
            "sram": technology.sram_pj_per_bit(memory.bank_bytes, node),
            "dram": technology.dram_pj_per_bit(memory.dram),
            "mac_area": self._mac_area(),
            "add_area": technology.add_um2(vector.format, node),
            "multiply_area": technology.multiply_um2(vector.format, node),
            "compare_area": technology.block_um2("max_int8", node).times(technology.bits(vector.format) / 8),
            "divide_area": technology.block_um2("divide_int16", node),
            "lut_area": technology.lut_um2(vector.programmable_lut, node),
            "flip_flop_area": technology.flip_flop_um2(node),
            "sram_area": technology.sram_um2_per_bit(node),
            "unit_energy": technology.unit_pj_per_mm2(node),
            "memory_activity": Constant(
                value=0.4, low=0.2, high=0.8, unit="-", source="fitted to ConSmax, ICCAD 2024", verified=False
            ),
        }  # fmt: skip
        found |= self._product_constants()
        chip = {name: getattr(self.constants, name) for name in self.constants.__dataclass_fields__}
        return found | {name: constant for name, constant in chip.items() if constant is not None}

    def _product_constants(self) -> dict[str, Constant]:
        """Energies of the whole-number products beside the native one, see pricing.mac_pj."""
        whole = [product for product in self.matrix.products if product != "add"]
        if not whole:
            return {}
        if technology.integer_bits(self.matrix.arithmetic) is not None:
            return {"width_rule": technology.width_rule()}
        found = {f"multiply_{name}": technology.operation_pj("multiply", name, self.node_nm) for name in whole}
        return found | {"accumulate_int32": technology.operation_pj("add", "int32", self.node_nm)}

    def _mac_area(self) -> Constant:
        """A multiply-accumulate with what the products beside it need: multipliers of their own, and accumulators for
        those beyond one at a time.
        """
        arithmetic, accumulator, node = self.matrix.arithmetic, self.matrix.accumulator, self.node_nm
        area = technology.mac_um2(arithmetic, accumulator, node)
        for product, rate in self.matrix.products.items():
            if rate > 1:
                area = area.plus(technology.add_um2(accumulator, node).times(rate - 1))
            if product == "add":
                continue
            multiplier = technology.multiply_um2(product, node)
            if technology.integer_bits(arithmetic) is not None:  # the other operand stays as wide as it is
                narrower = technology.bits(product) / technology.bits(arithmetic)
                multiplier = technology.multiply_um2(arithmetic, node).times(narrower)
            area = area.plus(multiplier.times(rate))
        return area

    def _lut_read(self) -> Constant:
        """Reading a 256-entry table: SRAM's law at 512 bytes; a table of constants by its share of the area."""
        access = technology.sram_pj_per_bit(512, self.node_nm).times(technology.bits(self.vector.format))
        if self.vector.programmable_lut:
            return access
        share = technology.lut_um2(False, self.node_nm).value / technology.lut_um2(True, self.node_nm).value
        return access.times(share)


def load(name: str) -> HardwareSpec:
    """The spec called ``name`` in conf/hardware, or the one in the YAML file ``name``."""
    file = Path(name)
    if file.suffix not in (".yaml", ".yml"):
        file = FOLDER / f"{name}.yaml"
        if not file.exists():
            raise unknown("hardware", name, "there is no hardware named", [f.stem for f in FOLDER.glob("*.yaml")])
    if not file.exists():
        raise UserError(f"hardware: there is no file {file}")
    text = read_text(file, limit=LARGEST)
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader)):
            raise UserError(f"{file}: anchors are not followed, write the value out")  # a few lines can be endless
        content = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = "nested too deep" if isinstance(error, RecursionError) else " ".join(str(error).split())[:200]
        raise UserError(f"{file}: not YAML: {reason}") from None
    return from_plain(content, str(file))


def from_plain(node: Any, path: str = "hardware") -> HardwareSpec:
    """Read a spec from plain data; an unknown key or a value out of range is a UserError."""
    return typed(HardwareSpec, node, path)
