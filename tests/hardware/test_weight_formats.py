"""Weight formats on machines, against numbers worked out by hand: bits, products, operations, energy, area."""

from __future__ import annotations

import dataclasses

import pytest

from minigpt.cost import Cost, Matmul
from minigpt.errors import UserError
from minigpt.hardware import load, ppa
from minigpt.hardware.demand import array_seconds, demand
from minigpt.hardware.products import EXPANSION, product
from minigpt.hardware.spec import from_plain
from minigpt.schema import plain
from tests.hardware.models import LLAMA_2_7B

K, N = 512, 256
WEIGHTS = 131_072
EDGE, A100 = load("edge_16nm"), load("a100_80g")


def with_products(spec, **products):
    return dataclasses.replace(spec, matrix=dataclasses.replace(spec.matrix, products=products))


BARE = with_products(EDGE)
WITH_INT4 = with_products(EDGE, int4=1)


def linear(fmt, rows=1, k=K, n=N, left_bits=None):
    held = {fmt: k * n}
    narrow = {} if fmt == "native" else held
    matmuls = (Matmul(rows, k, n, weight_format=fmt, left_bits=left_bits),)
    return Cost(params=k * n, narrow_params=narrow, weights_read=held, matmuls=matmuls)


def priced(fmt, spec, rows=1, left_bits=None):
    tree = Cost(parts={"linear": linear(fmt, rows, left_bits=left_bits)})
    return ppa(spec, prefill=tree, decode=tree)


def expanding(found):
    return next((dict(c.ops) for c in found.components if c.path == f"linear.{EXPANSION}"), {})


@pytest.mark.parametrize(
    ("fmt", "spec", "kind", "ops"),
    [
        ("int8", EDGE, "native", {}),
        ("int8", A100, "native", {"round": WEIGHTS}),  # to bf16
        ("int4/g128", EDGE, "native", {"mul": 4 * N, "add": 3 * N}),  # four groups of sums per result
        ("int4/g128", WITH_INT4, "int4", {"mul": 4 * N, "add": 3 * N}),
        ("int4/g512", EDGE, "native", {"mul": N}),  # one scale per output channel
        # a zero point more: per group and result, times the sum of the group's inputs, which takes K additions once
        ("int4/g128/affine", EDGE, "native", {"mul": 8 * N, "add": 7 * N + K}),
        ("int4/g128/affine", WITH_INT4, "int4", {"mul": 8 * N, "add": 7 * N + K}),
        ("int8/affine", EDGE, "native", {"mul": N, "add": N + K}),
        ("int4/g128/affine", A100, "native", {"round": WEIGHTS, "mul": WEIGHTS, "add": WEIGHTS}),
        ("int4/g128", A100, "native", {"round": WEIGHTS, "mul": WEIGHTS}),
        ("int3", WITH_INT4, "int4", {}),
        ("int5", WITH_INT4, "native", {}),
        ("int16", EDGE, "native", {"round": WEIGHTS}),  # wider than the array
        ("nf4/g64", A100, "native", {"lut": WEIGHTS, "mul": WEIGHTS}),
        ("nf4/g64", EDGE, "native", {"lut": WEIGHTS, "mul": 8 * N, "add": 7 * N}),
        ("ternary", EDGE, "add", {}),
        ("ternary", BARE, "native", {}),
        ("ternary", A100, "native", {"round": WEIGHTS}),
        ("packed_ternary", EDGE, "add", {"mul": WEIGHTS}),
        ("binary", EDGE, "add", {}),
        ("bf16", A100, "native", {}),
        ("fp32", A100, "native", {"round": WEIGHTS}),
        ("native", A100, "native", {}),
    ],
)
def test_a_machine_multiplies_what_it_can_and_expands_the_rest(fmt, spec, kind, ops):
    assert product(Matmul(1, K, N, weight_format=fmt), spec) == kind
    assert expanding(priced(fmt, spec)) == ops


@pytest.mark.parametrize(
    ("fmt", "left_bits", "kind", "ops"),
    [
        ("int8", 8, "int8", {}),
        ("int8", 9, "native", {"round": WEIGHTS}),
        ("int4", 8, "int8", {}),
        ("int4/g128", 4, "int4", {"mul": 4 * N, "add": 3 * N}),
        ("ternary", 8, "int8", {}),
        ("packed_ternary", 8, "int8", {"mul": WEIGHTS}),
        ("nf4", 8, "native", {"lut": WEIGHTS}),
        ("native", 8, "native", {}),
    ],
)
def test_beside_floating_point_a_whole_number_product_needs_activations_rounded_too(fmt, left_bits, kind, ops):
    assert product(Matmul(1, K, N, weight_format=fmt, left_bits=left_bits), A100) == kind
    assert expanding(priced(fmt, A100, left_bits=left_bits)) == ops


def test_a_product_of_its_own_has_its_own_energy_and_rate():
    """int8 on an A100: 0.07 and 0.03 pJ at 7 nm, 624 instead of 312 TOPS; activations of 8 bits on chip."""
    spent = {bits: priced("int8", A100, rows=4096, left_bits=bits) for bits in (8, None)}
    assert spent[8].energy.arithmetic_mj == pytest.approx(4096 * WEIGHTS * 0.10e-9)
    assert spent[None].energy.arithmetic_mj == pytest.approx(4096 * WEIGHTS * 0.59e-9)
    product = Matmul(4096, K, N, weight_format="int8")
    half = dataclasses.replace(product, left_bits=8)
    assert array_seconds(product, A100) == 2 * array_seconds(half, A100) == pytest.approx(4096 * WEIGHTS / 156e12)
    one, two = (array_seconds(Matmul(64, K, N, weight_format="ternary"), with_products(EDGE, add=r)) for r in (1, 2))
    assert one == 2 * two
    on_chip = [demand(Cost(matmuls=(m,)), A100).sram_bits for m in (product, half)]
    assert on_chip[0] - on_chip[1] == 4096 * K * (N // 128) * 8


def test_weights_are_expanded_each_time_a_tile_of_them_enters_the_array():
    rows = 2 * A100.matrix.rows + 1
    assert expanding(priced("int4/g128", A100, rows)) == {"round": 3 * WEIGHTS, "mul": 3 * WEIGHTS}
    assert expanding(priced("int4/g128", EDGE, 10)) == {"mul": 40 * N, "add": 30 * N}


@pytest.mark.parametrize(
    ("fmt", "bits"),
    [
        ("native", 8 * WEIGHTS), ("int8", 1_048_576), ("int4/g128", 540_672), ("nf4/g64", 557_056),
        ("ternary", 262_144), ("packed_ternary", 209_715.2),
    ],
)  # fmt: skip
def test_traffic_and_memory_are_those_of_the_stored_bits(fmt, bits):
    """LPDDR4 at 8 pJ/bit, 25.6 GB/s."""
    found = priced(fmt, EDGE)
    assert found.energy.dram_weights_mj == pytest.approx(bits * 8e-9)
    assert found.decode.bound_s >= bits / 8 / 25.6e9
    on_chip = priced(fmt, dataclasses.replace(EDGE, memory=dataclasses.replace(EDGE.memory, weights="sram")))
    per_bit = EDGE.all_constants["sram_area"].value * 1e-6 / 0.7
    assert on_chip.area.sram_mm2 - found.area.sram_mm2 == pytest.approx(bits * per_bit)


@pytest.mark.parametrize(
    ("fmt", "spec", "pj"),
    [
        ("int8", EDGE, 0.1116 + 0.0512),  # int8 multiply and int32 add at 16 nm
        ("int4/g128", EDGE, 0.1116 + 0.0512),
        ("int4/g128", WITH_INT4, 0.1116 / 2 + 0.0512),
        ("nf4/g64", EDGE, 0.1116 + 0.0512),
        ("ternary", EDGE, 0.0512),
        ("ternary", BARE, 0.1116 + 0.0512),
        ("nf4/g64", A100, 0.21 + 0.38),  # bf16 multiply and fp32 add at 7 nm
        ("ternary", A100, 0.21 + 0.38),
    ],
)
def test_a_multiply_accumulate_costs_what_its_product_does(fmt, spec, pj):
    assert priced(fmt, spec).energy.arithmetic_mj == pytest.approx(WEIGHTS * pj * 1e-9, rel=2e-3)


def test_expanding_costs_energy_time_and_the_circuits_it_needs():
    """fp32 lanes at 7 nm: 0.38 pJ per conversion, 1.31 pJ per multiplication."""
    int4, nf4, native = (priced(fmt, A100) for fmt in ("int4/g128", "nf4/g64", "native"))
    assert int4.energy.vector_mj == pytest.approx(WEIGHTS * (0.38 + 1.31) * 1e-9)
    assert nf4.energy.vector_mj == pytest.approx(WEIGHTS * 1.31 * 1e-9)
    assert nf4.energy.special_mj > 0
    assert nf4.area.special_mm2 > native.area.special_mm2 == 0
    assert int4.energy_per_token_mj < native.energy_per_token_mj


def test_expanding_seven_billion_weights_hides_behind_reading_them_or_not():
    """At 4.125 bits 2.46 ms of reading hide 1.36 ms of lanes. Table reads, on a quarter as many lanes, take 2.71 ms,
    their scales 0.68 ms: longer than reading."""

    def calibrated_ms(fmt):
        tree = Cost(parts={"linear": linear(fmt, 1, LLAMA_2_7B // 4096, 4096)})
        return ppa(A100, prefill=tree, decode=tree).decode.calibrated_s * 1e3

    assert calibrated_ms("int4/g128") == pytest.approx(2.457, rel=1e-3)
    assert calibrated_ms("nf4/g64") == pytest.approx(3.390, rel=1e-3)


def test_looked_up_rows_are_expanded_one_by_one():
    table = Cost(weights_read={"int4/g32": 64}, activations=64)
    found = ppa(EDGE, prefill=table, decode=table)
    assert {c.path: dict(c.ops) for c in found.components} == {"": {}, EXPANSION: {"mul": 64}}


def test_a_narrower_product_takes_a_multiplier_of_its_own():
    multiplier = EDGE.all_constants["mac_area"]
    assert WITH_INT4.all_constants["mac_area"].value - multiplier.value == pytest.approx(447 * 0.19 / 2)  # um2 at 16 nm
    twice = with_products(EDGE, int4=2).all_constants["mac_area"].value
    assert twice - multiplier.value == pytest.approx((447 + 181) * 0.19)  # and a second accumulator
    areas = [s.all_constants["mac_area"].value for s in (with_products(A100), with_products(A100, int8=1))]
    assert areas[1] - areas[0] == pytest.approx(447 * 0.059)  # um2 at 7 nm
    assert BARE.all_constants["mac_area"] == multiplier


def test_only_a_narrower_product_rests_on_the_rule_of_widths():
    assert "width_rule" in WITH_INT4.all_constants
    assert "width_rule" not in EDGE.all_constants


@pytest.mark.parametrize(("machine", "wrong"), [("edge_16nm", "int8"), ("edge_16nm", "ternary"), ("a100_80g", "fp8")])
def test_a_product_nobody_can_price_is_refused(machine, wrong):
    node = plain(load(machine))
    with pytest.raises(UserError, match=rf"matrix.products: no product beside \w+ is '{wrong}'.*\n.*choices: add"):
        from_plain(node | {"matrix": node["matrix"] | {"products": {wrong: 1}}})
