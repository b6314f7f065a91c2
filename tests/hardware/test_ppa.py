"""Figures of whole models: against measurements, against their own parts, and under every field of a spec."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from minigpt.cost import Work
from minigpt.hardware import from_plain, load, ppa, price, ratio_to_baseline
from minigpt.hardware.pricing import ENERGY_FIELDS
from minigpt.schema import plain
from tests.hardware.models import LLAMA_2_7B, LLAMA_3_1_8B, consmax, decode_of_weights, gpt, softmax

SMALL = gpt(n_layer=2, d=64, heads=4, vocabulary=500, block_size=128)
WEIGHTS_ONLY = 1e-2  # tolerance of a bound that leaves out cache and activations


def decode_ms(hardware, weights, bits=16):
    spec = load(hardware)
    spec = dataclasses.replace(spec, memory=dataclasses.replace(spec.memory, weight_bits=bits))
    step = decode_of_weights(weights)
    latency = ppa(spec, prefill=step, decode=step).decode
    return latency.bound_s * 1e3, latency.calibrated_s * 1e3


def with_memory(spec, **changes):
    return dataclasses.replace(spec, memory=dataclasses.replace(spec.memory, **changes))


@pytest.mark.parametrize(("hardware", "bound_ms"), [("a100_80g", 6.48), ("h100_sxm", 3.94)])
def test_decoding_llama_2_7b_is_bound_by_reading_its_weights(hardware, bound_ms):
    assert decode_ms(hardware, LLAMA_2_7B)[0] == pytest.approx(bound_ms, rel=WEIGHTS_ONLY)


def test_an_h200_is_an_h100_with_more_bandwidth():
    spec = with_memory(load("h100_sxm"), bandwidth_gb_s=4800.0)
    step = decode_of_weights(LLAMA_2_7B)
    assert ppa(spec, prefill=step, decode=step).decode.bound_s * 1e3 == pytest.approx(2.75, rel=WEIGHTS_ONLY)


@pytest.mark.parametrize(
    ("weights", "bits", "measured_ms"), [(LLAMA_2_7B, 16, 9.53), (LLAMA_3_1_8B, 16, 10.65), (LLAMA_2_7B, 8, 6.43)]
)
def test_decode_measured_on_an_a100_lies_above_the_bound_and_near_the_calibrated_time(weights, bits, measured_ms):
    bound, calibrated = decode_ms("a100_80g", weights, bits)
    assert bound <= measured_ms <= 2.1 * bound
    if bits == 16:
        assert calibrated == pytest.approx(measured_ms, rel=0.1)


def test_arithmetic_at_peak_stays_below_the_thermal_limit_and_fp16_takes_78_watts_on_an_a100():
    for name in ("a100_80g", "h100_sxm", "edge_16nm"):
        assert load(name).peak_arithmetic_w < load(name).tdp_w
    a100 = load("a100_80g")
    half = dataclasses.replace(a100.matrix, arithmetic="fp16", accumulator="fp16")
    assert dataclasses.replace(a100, matrix=half).peak_arithmetic_w == pytest.approx(78, rel=0.01)


def test_gpt2_on_the_edge_is_dominated_by_dram_and_its_softmax_is_invisible():
    """GPT-2 124M, int8, LPDDR4, context 1024: an independent estimate is 10.34 mJ per token, 0.22 uJ of it softmax."""
    assert gpt()(Work(batch=1, tokens=1, context=1024)).total.params == 124_439_808
    found = price(load("edge_16nm"), gpt(), context=1024)
    weights = [c for c in found.components if c.path.endswith("softmax")]
    softmax_uj = sum(c.energy.vector_mj + c.energy.special_mj for c in weights) * 1e3
    assert found.energy_per_token_mj == pytest.approx(10.34, rel=0.1)
    assert softmax_uj == pytest.approx(0.22, rel=0.5)
    assert (found.energy.dram_weights_mj + found.energy.dram_cache_mj) / found.energy_per_token_mj > 0.85


@pytest.mark.parametrize("hardware", ["edge_16nm", "a100_80g"])
@pytest.mark.parametrize("batch", [1, 3])
def test_the_breakdown_adds_up_to_the_total_exactly(hardware, batch):
    found = price(load(hardware), SMALL, context=64, batch=batch)
    for name in ENERGY_FIELDS:
        assert math.fsum(getattr(c.energy, name) for c in found.components) == getattr(found.energy, name)
    assert math.fsum(c.latency_s for c in found.components) == pytest.approx(found.decode.calibrated_s, rel=1e-12)
    counted = SMALL(Work(batch=batch, tokens=1, context=64, last_only=True)).total
    assert sum(sum(c.ops.values()) for c in found.components) == pytest.approx(sum(counted.ops.values()) / batch)
    assert sum(c.macs for c in found.components) == pytest.approx(counted.macs / batch)


def test_the_latency_bracket_holds_the_calibrated_value():
    for hardware in ("edge_16nm", "a100_80g", "h100_sxm"):
        found = price(load(hardware), SMALL, context=128)
        for latency in (found.decode, found.prefill):
            assert latency.bound_s <= latency.calibrated_s <= latency.serial_s


def test_a_function_that_reduces_nothing_streams_and_one_that_does_is_exposed():
    exposed = {}
    for name, make in (("softmax", softmax), ("consmax", consmax)):
        parts = price(load("edge_16nm"), gpt(n_layer=1, weights=make), context=1024).components
        exposed[name] = next(c.latency_s for c in parts if c.path.endswith("softmax"))
    assert exposed["consmax"] == 0
    assert exposed["softmax"] > 1e-6


def test_a_batch_shares_the_weights_but_not_the_cache():
    spec = load("edge_16nm")
    one, four = (price(spec, SMALL, context=64, batch=batch).energy for batch in (1, 4))
    assert four.dram_weights_mj < one.dram_weights_mj / 2
    assert four.dram_cache_mj == pytest.approx(one.dram_cache_mj)


def test_weights_and_cache_in_sram_cost_area_instead_of_dram_energy():
    spec = load("edge_16nm")
    there = price(spec, SMALL, context=64)
    here = price(with_memory(spec, weights="sram", cache="sram"), SMALL, context=64)
    assert here.energy.dram_weights_mj == here.energy.dram_cache_mj == 0
    assert here.energy.sram_mj > 0
    assert here.area.sram_mm2 > there.area.sram_mm2


def test_the_headline_uses_the_activations_the_spec_names():
    spec = load("edge_16nm")
    moved = {
        way: price(with_memory(spec, activations=way), SMALL, context=64) for way in ("on_chip", "fused", "unfused")
    }
    per_byte = 8 * spec.all_constants["dram"].value * 1e-9
    for way, found in moved.items():
        assert found.headline_activations == way
        assert found.energy.dram_activations_mj == pytest.approx(getattr(found.activations, way) * per_byte)


def test_unverified_shares_vanish_with_everything_verified_and_fill_the_total_without():
    def claimed(spec, verified):
        node = plain(spec)
        for constant in filter(None, node["constants"].values()):
            constant["verified"] = verified
        return from_plain(node)

    step = decode_of_weights(10**9)
    edge = load("edge_16nm")
    trusting, doubting = (ppa(claimed(edge, v), prefill=step, decode=step) for v in (True, False))
    assert trusting.energy_unverified_share < 1e-4  # bf16 lanes: their area is derived, and leaks
    assert trusting.latency_unverified_share == 0
    assert doubting.energy_unverified_share == pytest.approx(
        (doubting.energy.leakage_mj + doubting.energy.control_mj) / doubting.energy_per_token_mj
    )
    assert doubting.latency_unverified_share == pytest.approx(1 - edge.constants.dram_efficiency.value, rel=0.01)


def test_intervals_hold_the_value_and_ratios_are_far_better_known():
    spec = load("edge_16nm")
    base, other = price(spec, SMALL, context=128), price(spec, gpt(3, 64, 4, 500, 128), context=128)
    span = base.energy_interval_mj
    assert span.low < base.energy_per_token_mj < span.high
    ratio = ratio_to_baseline(
        other.energy_per_token_mj, other.energy_draws_mj, base.energy_per_token_mj, base.energy_draws_mj, 0.95
    )
    assert ratio.low <= ratio.ratio <= ratio.high
    assert ratio.high / ratio.low < (span.high / span.low) / 1.5
    assert ratio.below == 0


def test_draws_are_the_same_machine_for_every_model_and_for_every_call():
    spec = load("edge_16nm")
    first, again = price(spec, SMALL, context=32), price(spec, SMALL, context=32)
    np.testing.assert_array_equal(first.energy_draws_mj, again.energy_draws_mj)
    same = ratio_to_baseline(1.0, first.energy_draws_mj, 1.0, again.energy_draws_mj, 0.95)
    assert (same.low, same.high, same.below) == (1, 1, 0.5)


def numeric_fields(node, path=()):
    for key, value in node.items():
        if isinstance(value, dict):
            yield from numeric_fields(value, (*path, key))
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            yield (*path, key)


EDGE = plain(load("edge_16nm")) | {"draws": 50}
PRICED = {"edge": EDGE, "gpu": plain(load("a100_80g")) | {"draws": 50}}
# tdp_w refuses a machine and prices nothing; what a product of its own does: test_weight_formats.py
ELSEWHERE = {("tdp_w",), ("matrix", "products", "add")}


@pytest.mark.parametrize(
    ("machine", "field"),
    [("edge", f) for f in numeric_fields(EDGE) if f not in ELSEWHERE]
    + [("gpu", ("matrix", "peak_tflops")), ("gpu", ("constants", "die_area", "value"))],
    ids=lambda x: ".".join(x) if isinstance(x, tuple) else x,
)
def test_every_number_of_a_spec_changes_a_result(machine, field):
    base = PRICED[machine]
    assert any(figures(base) != figures(changed(base, field, factor)) for factor in (0.5, 0.9, 1.1, 2, 64))


@pytest.mark.parametrize(
    ("group", "field", "other"),
    [
        ("matrix", "arithmetic", "int16"), ("matrix", "accumulator", "fp32"), ("matrix", "skips_masked", False),
        ("matrix", "products", {"int4": 1}),
        ("vector", "format", "fp32"), ("vector", "programmable_lut", True), ("memory", "dram", "hbm3"),
        ("memory", "weights", "sram"), ("memory", "cache", "sram"), ("memory", "activations", "unfused"),
    ],
)  # fmt: skip
def test_every_choice_of_a_spec_changes_a_result(group, field, other):
    assert figures(EDGE) != figures(EDGE | {group: EDGE[group] | {field: other}})


def changed(node, path, factor):
    copy = from_plain(node)
    content = plain(copy)
    *groups, last = path
    inner = content
    for key in groups:
        inner = inner[key]
    old = inner[last]
    inner[last] = (int(old * factor) or 1) if isinstance(old, int) else old * factor
    if path == ("seed",):
        inner[last] = 7
    if path[0] == "constants" and last == "value":
        inner |= {"low": min(inner["low"], inner[last]), "high": max(inner["high"], inner[last])}
        inner[last] = min(inner[last], 1.0) if path[1] in ("dram_efficiency", "utilisation") else inner[last]
    elif path[0] == "constants":
        inner["low"], inner["high"] = min(inner["low"], inner["value"]), max(inner["high"], inner["value"])
    if path == ("confidence",):
        inner[last] = 0.5
    content["tdp_w"] = 1e9
    return content


def figures(node):
    found = price(from_plain(node | {"tdp_w": 1e9}), SMALL, context=64)
    intervals = (found.energy_interval_mj, found.latency_interval_s, found.area_interval_mm2)
    units = [c.unit for c in found.components]
    return (found.decode, found.prefill, found.energy, found.area, intervals, units)


def test_the_pricing_of_a_large_model_answers_quickly():
    """A sweep prices hundreds of models: 32 layers with all draws in well under two seconds."""
    import time

    start = time.perf_counter()
    price(load("edge_16nm"), gpt(32, 4096, 32, 32000, 4096), context=4096)
    assert time.perf_counter() - start < 2
