"""Cycles, bits and operations of one component on one machine."""

from __future__ import annotations

import dataclasses

import pytest

from minigpt.cost import OPERATIONS, Cost, Matmul
from minigpt.errors import UserError
from minigpt.hardware import load
from minigpt.hardware.constants import nominal
from minigpt.hardware.demand import array_seconds, demand, systolic_cycles
from minigpt.hardware.operations import circuits
from minigpt.hardware.pricing import energy, times

EDGE = load("edge_16nm")


def with_matrix(**changes):
    return dataclasses.replace(EDGE, matrix=dataclasses.replace(EDGE.matrix, **changes))


def test_systolic_cycles_are_those_of_scale_sim():
    """M = 32, N = 16, K = 256 on 16 x 16."""
    assert systolic_cycles(m=32, k=256, n=16, rows=16, columns=16) == 571


def test_one_array_takes_exactly_its_cycles():
    spec = with_matrix(rows=16, columns=16)
    assert array_seconds(Matmul(32, 256, 16), spec) * spec.clock_hz == pytest.approx(571)


def test_decoding_one_sequence_leaves_most_of_the_array_idle():
    one, full = (array_seconds(Matmul(m, 768, 768), EDGE) for m in (1, EDGE.matrix.rows))
    assert one == full


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_every_operation_takes_energy_and_time_on_every_machine(name):
    for machine in ("edge_16nm", "a100_80g", "h100_sxm"):
        spec = load(machine)
        counted, values = demand(Cost(ops={name: 1000}), spec), nominal(spec.all_constants)
        spent = energy(counted, spec, 0.0, 0.0, values)
        assert spent.vector_mj + spent.special_mj > 0
        assert times(counted, spec, values).vector_s > 0


def test_an_operation_without_a_price_is_refused_never_free():
    with pytest.raises(UserError, match=r"no hardware price for operation 'expp'. Did you mean 'exp'"):
        circuits("expp")


def test_masked_products_cost_only_where_the_machine_does_not_skip_them():
    product = Cost(matmuls=(Matmul(128, 64, 128, useful=128 * 129 // 2 * 64, weight_format=None),))
    skipping, plodding = demand(product, EDGE), demand(product, with_matrix(skips_masked=False))
    assert skipping.macs["native"] == 128 * 129 // 2 * 64
    assert plodding.macs["native"] == 128 * 128 * 64
    assert plodding.array_s > skipping.array_s


def test_activation_bytes_grow_from_on_chip_to_fused_to_unfused():
    counted = demand(Cost(ops={"exp": 100, "add": 100}, activations=200), EDGE).activations
    assert (counted.on_chip, counted.fused, counted.unfused) == (0, 200, 100 * 2 + 100 * 3)


def test_keys_and_values_from_the_cache_are_not_activations():
    fresh, cached, kept = (
        demand(Cost(matmuls=(Matmul(1, 64, 1000, weight_format=None, **where),)), EDGE).activations.unfused
        for where in ({}, {"right_bits": 8}, {"result_bits": 8})
    )
    assert (fresh, cached, kept) == (64 + 1000 + 64_000, 64 + 1000, 64 + 64_000)


def test_a_state_that_is_wider_than_an_activation_moves_more_bits_on_chip():
    """One row of 64 on a 32 x 32 array: the row twice, the operand once, the result once."""
    narrow, wide, kept = (
        demand(Cost(matmuls=(Matmul(1, 64, 64, weight_format=None, **where),)), EDGE).sram_bits
        for where in ({}, {"right_bits": 32}, {"result_bits": 32})
    )
    assert narrow == (2 * 64 + 64 * 64 + 64) * 8
    assert wide == narrow + 64 * 64 * 24
    assert kept == narrow + 64 * 24


@pytest.mark.parametrize(("passes", "walked"), [(0, 0), (1, 0), (2, 500), (3, 1000)])
def test_every_further_walk_reads_the_rows_from_sram_again(passes, walked):
    bits = demand(Cost(ops={"add": 500}, activations=1000, passes=passes), EDGE).sram_bits
    assert bits == (1000 + walked) * EDGE.memory.activation_bits


def test_a_map_that_walks_its_rows_before_the_product_reads_them_once_more():
    product = Cost(matmuls=(Matmul(4, 64, 32, weight_format="ternary"),), activations=4 * 96)
    once, twice = (demand(dataclasses.replace(product, passes=passes), EDGE).sram_bits for passes in (1, 2))
    assert twice - once == 4 * 64 * EDGE.memory.activation_bits


def test_a_component_is_no_faster_than_its_working_memory():
    slow = dataclasses.replace(EDGE, memory=dataclasses.replace(EDGE.memory, sram_bandwidth_gb_s=0.5))
    stream = demand(Cost(ops={"add": 500}, activations=1000, passes=2), slow)
    found = times(stream, slow, nominal(slow.all_constants))
    assert found.calibrated_s == found.sram_s == pytest.approx(1500 / 0.5e9)


def test_activations_that_do_not_fit_on_chip_spill():
    elements = EDGE.memory.sram_bytes + 1
    assert demand(Cost(activations=elements), EDGE).activations.on_chip == elements
