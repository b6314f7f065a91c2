"""Softmax units from operation counts, against the synthesised ones of the ConSmax paper (ICCAD 2024, table I)."""

from __future__ import annotations

import dataclasses
import math

import pytest

from minigpt.hardware import load, tables
from minigpt.hardware.constants import nominal
from minigpt.hardware.unit import unit
from tests.hardware.models import consmax, softermax, softmax

FUNCTIONS = {"consmax": consmax, "softermax": softermax, "softmax": softmax}
ROWS, LENGTH = 10, 256


def units_at(node_nm):
    """name -> (um2, pJ per element)."""
    spec = dataclasses.replace(load("edge_16nm"), node_nm=node_nm, tdp_w=100.0)
    values = nominal(spec.all_constants)
    built = {name: unit(make(ROWS * LENGTH, ROWS), spec) for name, make in FUNCTIONS.items()}
    return {name: (u.area_um2(values), u.energy_pj(values)) for name, u in built.items()}


@pytest.mark.parametrize("node_nm", [16, 45, 130])
@pytest.mark.parametrize(
    ("name", "area", "power", "energy"),
    [("softermax", (2.1, 4.1), (3.2, 5.8), (3.5, 6.4)), ("softmax", (12.2, 25.7), (7.5, 23), (7.5, 44.6))],
)
def test_ratios_to_consmax_lie_in_the_published_ranges(node_nm, name, area, power, energy):
    """At one element per cycle and the same clock, the ratio of powers is that of energies."""
    found = units_at(node_nm)
    area_ratio, energy_ratio = (found[name][i] / found["consmax"][i] for i in (0, 1))
    assert area[0] <= area_ratio <= area[1]
    assert power[0] <= energy_ratio <= power[1]
    assert energy[0] <= energy_ratio <= energy[1]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_areas_at_130_nm_lie_within_a_quarter_of_the_published_ones(name):
    """Areas are counted, not fitted: 7 000 to 15 000, 29 000 to 33 000, 180 000 to 200 000 um2."""
    low, high = (1e6 * mm2 for mm2 in tables.CONSMAX_AREA_MM2[name][2:])
    assert low / 1.25 < units_at(130)[name][0] < high * 1.25


@pytest.mark.parametrize(("node_nm", "columns"), [(16, slice(0, 2)), (130, slice(2, 4))])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_energies_lie_within_a_factor_of_two_of_the_published_mean(node_nm, columns, name):
    published = math.sqrt(math.prod(tables.CONSMAX_ENERGY_PJ[name][columns]))
    assert published / 2 < units_at(node_nm)[name][1] < published * 2


def test_a_programmable_table_makes_a_unit_about_five_times_as_large_as_constants():
    spec = load("edge_16nm")
    writable = dataclasses.replace(spec, vector=dataclasses.replace(spec.vector, programmable_lut=True))
    table = [nominal(s.all_constants)["lut_area"] for s in (spec, writable)]
    assert table[1] / table[0] == pytest.approx(23446 / 4795)


def test_what_ordinary_lanes_do_needs_no_unit():
    from minigpt.cost import Cost

    assert unit(Cost(ops={"cmp": 100, "mul": 100}, activations=200), load("edge_16nm")) is None
