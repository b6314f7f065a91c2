"""Real models on real machines: what a variant saves shows where it saves it."""

from __future__ import annotations

import dataclasses

import pytest
from torch.utils.flop_counter import FlopCounterMode

from minigpt.components.linear.base import LinearMap
from minigpt.hardware import load
from minigpt.hardware.ppa import price
from minigpt.model import GPT
from minigpt.testing import make_spec

EDGE = load("edge_16nm")


def ppa_of(spec=EDGE, context=16, **axes):
    return price(spec, GPT.on_meta(make_spec(**axes)).cost, context=context)


def test_ternary_weights_kept_on_chip_take_a_quarter_of_the_memory_of_8_bit_ones():
    on_chip = dataclasses.replace(EDGE, memory=dataclasses.replace(EDGE.memory, weights="sram"))
    model = GPT.on_meta(make_spec(linear="ternary"))
    matrices = sum(
        p.numel() for name, p in model.named_parameters() if model.roles()[name] in ("weight", "residual_out")
    )
    plain, ternary = (ppa_of(on_chip, linear=linear) for linear in ("linear", "ternary"))
    per_bit = (plain.area.sram_mm2 - ppa_of().area.sram_mm2) / (8 * model.parameter_count())
    assert plain.area.sram_mm2 - ternary.area.sram_mm2 == pytest.approx(per_bit * (8 - 2) * matrices, rel=1e-6)


@pytest.mark.parametrize(
    ("fmt", "bits"), [("int8", 8), ("int4/g32", 4.5), ("nf4/g16", 5), ("ternary", 2), ("packed_ternary", 1.6)]
)
def test_a_weight_format_of_every_linear_map_reaches_memory_and_traffic(fmt, bits):
    on_chip = dataclasses.replace(EDGE, memory=dataclasses.replace(EDGE.memory, weights="sram"))
    model, matrices = GPT.on_meta(make_spec()), 0
    native, native_on_chip = (price(spec, model.cost, context=16) for spec in (EDGE, on_chip))
    for module in model.modules():
        if isinstance(module, LinearMap):
            module.weight_format = fmt
            matrices += module.weight.numel()
    narrow, narrow_on_chip = (price(spec, model.cost, context=16) for spec in (EDGE, on_chip))
    saved = (8 - bits) * matrices
    assert native.energy.dram_weights_mj - narrow.energy.dram_weights_mj == pytest.approx(saved * 8e-9)
    per_bit = EDGE.all_constants["sram_area"].value * 1e-6 / EDGE.constants.utilisation.value
    assert native_on_chip.area.sram_mm2 - narrow_on_chip.area.sram_mm2 == pytest.approx(saved * per_bit)


def test_ternary_maps_with_8_bit_activations_run_as_int8_on_a_gpu_and_as_bf16_without():
    """0.07 and 0.03 pJ against 0.21 and 0.38 pJ at 7 nm."""
    spec = load("a100_80g")
    spent = [
        sum(c.energy.arithmetic_mj for c in ppa_of(spec, linear=linear).components if c.path.endswith("mlp.down"))
        for linear in ({"name": "ternary"}, {"name": "ternary", "activation_bits": None}, {"name": "linear"})
    ]
    assert spent[0] / spent[2] == pytest.approx(0.10 / 0.59)
    assert spent[1] == spent[2] > 0


@pytest.mark.parametrize("attention", [{"name": "linear"}, {"name": "causal", "softcap": 5.0}])
def test_exponentials_beside_matrix_products_need_circuits_too(attention):
    parts = {"softmax": "relumax"} if attention["name"] == "causal" else {}
    bare = {"norm": "identity", "mlp": "mlp", "activation": "relu", "position": "nope"}
    found = ppa_of(attention=attention, **parts, **bare)
    without = ppa_of(attention={"name": "causal"}, softmax="relumax", **bare)
    assert found.area.special_mm2 > without.area.special_mm2


def test_scores_that_stream_inside_attention_never_reach_the_memory():
    fused = dataclasses.replace(EDGE, memory=dataclasses.replace(EDGE.memory, activations="fused"))
    softmax = [c for c in ppa_of(fused).components if c.path.endswith("attention.softmax")]
    assert softmax
    assert all(c.energy.dram_activations_mj == 0 for c in softmax)


def test_figures_per_token_do_not_depend_on_the_batch_where_nothing_is_shared():
    model = GPT.on_meta(make_spec())
    one, eight = (price(EDGE, model.cost, context=16, batch=batch) for batch in (1, 8))
    for alone, together in zip(one.components, eight.components, strict=True):
        assert alone.ops == together.ops, alone.path
        assert alone.macs == together.macs, alone.path


def test_a_window_shortens_a_decode_step_s_products_to_what_its_cache_holds():
    import torch

    from minigpt.cost import Work

    for window in (None, 4):
        model = GPT.create(make_spec(attention={"name": "causal", "window": window}, softmax="relumax")).eval()
        state = model.new_state(2)
        with torch.no_grad():
            model(torch.zeros(2, 11, dtype=torch.long), state)
            with FlopCounterMode(display=False) as counter:
                model(torch.zeros(2, 1, dtype=torch.long), state)
        assert model.cost(Work(2, 1, 12, dense=True)).flops == counter.get_total_flops()
