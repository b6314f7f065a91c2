"""A norm whose division waits for the maps behind it says what the usual order says, or is refused."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from minigpt.components.attention.causal import CausalAttention
from minigpt.cost import Work
from minigpt.errors import UserError
from minigpt.model import GPT
from minigpt.plugins import load_plugins, unloaded_afterwards
from minigpt.registry import forgotten_afterwards, register
from minigpt.testing import make_spec
from minigpt.testing.models import decode, moved

TOKENS = torch.arange(48).view(3, 16) % 50
FINAL = {"norm": {"final": "rmsnorm"}}
READS = {
    "attention_norm": ("attention.q", "attention.k", "attention.v", "attention.gate"),
    "mlp_norm": ("mlp.gate", "mlp.up"),
}


def folded(weights: dict[str, torch.Tensor], n_layer: int, shared: bool = False) -> dict[str, torch.Tensor]:
    """The weights of a model with RMSNorm -> those of the same without gains, which go into the maps behind."""
    gains = ("attention_norm.gain", "mlp_norm.gain", "final_norm.gain")
    kept = {name: tensor for name, tensor in weights.items() if not name.endswith(gains)}
    reads = {"attention_norm": READS["attention_norm"] + READS["mlp_norm"]} if shared else READS
    for layer in range(n_layer):
        for norm, maps in reads.items():
            gain = weights.get(f"blocks.{layer}.{norm}.gain")
            for name in (f"blocks.{layer}.{each}.weight" for each in maps if gain is not None):
                if name in kept:
                    kept[name] = kept[name] * gain
    if "final_norm.gain" in weights:
        kept["head.linear.weight"] = kept["head.linear.weight"] * weights["final_norm.gain"]
    return kept


@pytest.mark.parametrize(
    "choices",
    [
        {},
        {"bias": True, "attention": {"name": "causal", "gate": "headwise", "qk_norm": True, "n_kv_head": 2}},
        {"mlp": "mlp", "layout": {"name": "parallel", "shared_norm": True}},
        {"layout": "attention_only"},
    ],
    ids=str,
)
def test_it_is_rmsnorm_followed_by_the_maps_with_its_gain_folded_into_them(choices):
    spec = {"tie_embeddings": False} | choices
    usual = moved(GPT.create(make_spec(**spec))).double().eval()
    sites = {"norm": {"qk": "rmsnorm"}} if "attention" in choices else None
    ours = GPT.create(make_spec(**spec, norm="flashnorm", sites=sites))
    ours.double().eval().load_state_dict(folded(usual.state_dict(), 2, shared="layout" in choices and "mlp" in choices))
    with torch.no_grad():
        expected = usual(TOKENS).logits
        torch.testing.assert_close(ours(TOKENS).logits, expected)
        torch.testing.assert_close(decode(ours, TOKENS, (5, 6, 1, 1, 1, 1, 1)), expected)


def test_the_maps_pay_for_the_division_and_no_product_waits_for_a_reduction():
    model = GPT.on_meta(make_spec(norm="flashnorm", sites=FINAL))
    block = model.cost(Work(1, 10, 10)).parts["blocks.0"].parts
    assert block["attention_norm"].reductions == 0
    assert block["attention"].parts["q"].ops == {"mul": 10 * 32}
    assert "mul" not in block["attention"].parts["o"].ops


@pytest.mark.parametrize(
    ("choices", "sentence"),
    [
        (
            {"sites": {}},
            r"norm=flashnorm at 'final' leaves .* head=linear does not promise .*\. Set sites.norm.final=rmsnorm",
        ),
        ({"layout": "post_norm", "sites": {}}, r"norm=flashnorm at 'attention' .* other parts read it"),
        ({"attention": {"name": "causal", "qk_norm": True}}, r"at 'qk'"),
        ({"sites": {"norm": {"final": "rmsnorm", "embedding": "flashnorm"}}}, r"at 'embedding'"),
        ({"layout": "sandwich"}, r"at 'attention_out'"),
        ({"linear": "ternary"}, r"the map at 'q', ternary, does more than multiply"),
        ({"quantiser": "int"}, r"quantiser=int at attention_input would round"),
        ({"attention": "linear", "position": "nope"}, r"attention=linear does not promise"),
        ({"transforms": [{"name": "tiny_lora", "rank": 2, "sites": ["up"]}]}, r"does more than multiply"),
    ],
)
def test_where_something_else_reads_it_is_refused_with_the_way_out(choices, sentence):
    with unloaded_afterwards():
        load_plugins(["tests.seams"])
        with pytest.raises(UserError, match=sentence) as error:
            GPT.on_meta(make_spec(**{"norm": "flashnorm", "sites": FINAL} | choices))
    assert len(str(error.value).splitlines()) == 1


def test_maps_that_two_layers_share_stand_behind_one_kind_of_norm():
    spec = make_spec(norm="flashnorm", sites=FINAL, share={"attention": "run"})
    GPT.on_meta(spec)
    usual = make_spec(sites=FINAL, share={"attention": "run"}).blocks[1]
    with pytest.raises(UserError, match=r"attention=causal stands behind norm=rmsnorm in one layer"):
        GPT.on_meta(dataclasses.replace(spec, blocks=(spec.blocks[0], usual)))


def test_a_subclass_promises_for_itself():
    with forgotten_afterwards():

        @register("attention", "looks")
        class Looks(CausalAttention):
            def forward(self, x, call, state=None):
                return super().forward(2 * x, call, state)

        with pytest.raises(UserError, match=r"attention=looks does not promise"):
            GPT.on_meta(make_spec(norm="flashnorm", sites=FINAL, attention="looks"))
