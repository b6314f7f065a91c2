"""Published energies and areas come out at their nodes, and what lies between them where it was computed by hand."""

from __future__ import annotations

import pytest

from minigpt.errors import UserError
from minigpt.hardware import tables, technology


@pytest.mark.parametrize(("operation", "fmt"), tables.OPERATION_PJ)
def test_operation_energies_are_the_published_ones_at_both_nodes(operation, fmt):
    at_45, at_7 = tables.OPERATION_PJ[operation, fmt]
    assert technology.operation_pj(operation, fmt, 7).value == pytest.approx(at_7, rel=1e-3)
    if at_45 is not None:
        assert technology.operation_pj(operation, fmt, 45).value == pytest.approx(at_45, rel=1e-3)


@pytest.mark.parametrize("capacity", tables.SRAM_ACCESS_PJ)
def test_sram_access_energies_are_the_published_ones_at_both_nodes(capacity):
    for node, published in zip((45, 7), tables.SRAM_ACCESS_PJ[capacity], strict=True):
        assert 64 * technology.sram_pj_per_bit(capacity, node).value == pytest.approx(published, rel=1e-3)


def test_published_anchors_are_copied_right():
    """A few of Horowitz (ISSCC 2014) and Jouppi et al. (ISCA 2021), written out a second time."""
    assert tables.OPERATION_PJ["multiply", "int8"] == (0.2, 0.07)
    assert tables.OPERATION_PJ["add", "int32"] == (0.1, 0.03)
    assert tables.OPERATION_PJ["multiply", "fp32"] == (3.7, 1.31)
    assert tables.SRAM_ACCESS_PJ[32 * 1024] == (20, 8.5)


def test_energies_at_16_nm_are_interpolated_on_logarithms():
    """int8 multiply-accumulate 0.163 pJ, fp16 0.81, SRAM 8.5 / 12.4 / 33.5 per 64 bits: by hand from the two tables."""
    int8 = technology.operation_pj("multiply", "int8", 16).value + technology.operation_pj("add", "int32", 16).value
    fp16 = technology.operation_pj("multiply", "fp16", 16).value + technology.operation_pj("add", "fp16", 16).value
    accesses = [64 * technology.sram_pj_per_bit(capacity, 16).value for capacity in tables.SRAM_ACCESS_PJ]
    assert int8 == pytest.approx(0.163, rel=0.005)
    assert fp16 == pytest.approx(0.81, rel=0.01)
    assert accesses == pytest.approx([8.5, 12.4, 33.5], rel=0.005)


def test_widths_nobody_published_follow_linear_adders_and_quadratic_multipliers_and_are_unverified():
    add, multiply = technology.operation_pj("add", "int16", 45), technology.operation_pj("multiply", "int16", 45)
    assert add.value == pytest.approx(2 * 0.03)
    assert multiply.value == pytest.approx(4 * 0.2)
    assert not add.verified


def test_outside_the_tables_energy_is_scaled_widened_and_unverified():
    inside, outside = technology.operation_pj("add", "int8", 45), technology.operation_pj("add", "int8", 130)
    assert outside.value > 2 * inside.value
    assert inside.high / inside.value == pytest.approx(2)
    assert outside.high / outside.value == pytest.approx(4)
    assert inside.verified
    assert not outside.verified


def test_a_format_without_a_published_energy_is_refused():
    with pytest.raises(UserError, match="fp8"):
        technology.operation_pj("add", "fp8", 16)


def test_dram_energy_keeps_its_published_range_and_says_when_it_is_unverified():
    hbm2, lpddr5 = technology.dram_pj_per_bit("hbm2"), technology.dram_pj_per_bit("lpddr5")
    assert hbm2.low < 3.9 < hbm2.value < 7.0 < hbm2.high
    assert technology.dram_pj_per_bit("lpddr4").value == 8
    assert not lpddr5.verified


def test_area_of_the_tpu_v1_comes_out_within_a_factor_of_two():
    """28 nm, 65 536 int8 multiply-accumulates, 28 MiB: 24 % and 35 % of 331 mm2 (Jouppi et al., ISCA 2017)."""
    overhead, utilisation = 1.5, 0.7
    array = 65_536 * technology.mac_um2("int8", "int32", 28).value * overhead / utilisation * 1e-6
    memory = 28 * 2**20 * 8 * technology.sram_um2_per_bit(28).value / utilisation * 1e-6
    assert 79.4 / 2 < array < 79.4 * 2
    assert 115.9 / 2 < memory < 115.9 * 2


@pytest.mark.parametrize("node", [130, 45])
def test_blocks_have_their_synthesised_area_at_the_node_of_their_library(node):
    for block, (at_130, at_45) in tables.BLOCK_UM2.items():
        assert technology.block_um2(block, node).value == pytest.approx(at_130 if node == 130 else at_45)
