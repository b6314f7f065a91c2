"""Layouts beside their papers' wiring, site by site, and what a sub-layer alone leaves out."""

from __future__ import annotations

import pytest
import torch

from minigpt import registry
from minigpt.cost import Work
from minigpt.errors import UserError
from minigpt.model import GPT
from minigpt.testing import make_spec
from minigpt.testing.models import batch, moved
from tests.components.parts import call, values

WIRINGS = {
    "pre_norm": lambda b, x, a, m: (h := x + a(b.attention_norm(x))) + m(b.mlp_norm(h)),
    "post_norm": lambda b, x, a, m: b.mlp_norm((h := b.attention_norm(x + a(x))) + m(h)),
    "res_post_norm": lambda b, x, a, m: (h := x + b.attention_norm(a(x))) + b.mlp_norm(m(h)),
    "sandwich": lambda b, x, a, m: (
        (h := x + b.attention_out_norm(a(b.attention_norm(x)))) + b.mlp_out_norm(m(b.mlp_norm(h)))
    ),
    "parallel": lambda b, x, a, m: x + a(b.attention_norm(x)) + m(b.mlp_norm(x)),
    "attention_only": lambda b, x, a, m: x + a(b.attention_norm(x)),
    "mlp_only": lambda b, x, a, m: x + m(b.mlp_norm(x)),
}
SITES = {
    "sandwich": ["attention", "attention_out", "mlp", "mlp_out"],
    "attention_only": ["attention"],
    "mlp_only": ["mlp"],
}


@pytest.mark.parametrize("name", registry.names("layout"))
def test_a_layout_is_wired_as_its_paper_says(name):
    x, here = values(2, 5, 32), call(0, 5)
    block = moved(GPT.create(make_spec(layout=name))).eval().blocks[0]
    expected = WIRINGS[name](block, x, lambda y: block.attention(y, here), lambda y: block.mlp(y, here))
    torch.testing.assert_close(block(x, here), expected)


@pytest.mark.parametrize("name", registry.names("layout"))
def test_every_place_of_a_norm_may_have_one_of_its_own(name):
    sites = SITES.get(name, ["attention", "mlp"])
    for site in sites:
        block = GPT.on_meta(make_spec(layout=name, sites={"norm": {site: "layernorm"}})).blocks[0]
        found = {each: getattr(block, f"{each}_norm").name for each in sites}
        assert found == {each: "layernorm" if each == site else "rmsnorm" for each in sites}
        assert getattr(block, f"{site}_norm").site == site


def test_peri_norm_is_another_name_of_sandwich():
    assert registry.get("layout", "peri_norm") is registry.get("layout", "sandwich")
    assert make_spec(layout="peri_norm") == make_spec(layout="sandwich")


def test_a_norm_before_and_after_each_sub_layer_needs_a_final_one_and_post_norm_none():
    models = {name: GPT.on_meta(make_spec(layout=name)) for name in registry.names("layout")}
    assert [name for name, model in models.items() if model.final_norm is None] == ["post_norm"]


def test_an_mlp_alone_remembers_nothing_and_says_the_same_after_any_text():
    model = GPT.create(make_spec(layout="mlp_only")).eval()
    assert model.new_state(2).bits == 0
    assert model.cost(Work(1, 1, 16)).total.state_bits == 0
    tokens = batch(2, 8)
    alone = torch.cat([model(tokens[:, t : t + 1]).logits for t in range(8)], dim=1)
    torch.testing.assert_close(model(tokens).logits, alone)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"layout": "attention_only", "mlp": "mlp"}, r"mlp=mlp would be ignored.*layout=attention_only use no mlp"),
        ({"layout": "mlp_only", "attention": "linear"}, r"attention=linear would be ignored"),
        ({"layout": "attention_only", "activation": "relu"}, r"activation=relu would be ignored"),
        ({"layout": "mlp_only", "sites": {"norm": {"attention": "layernorm"}}}, r"sites\.norm\.attention: no part"),
        ({"layout": "pre_norm", "sites": {"norm": {"mlp_out": "layernorm"}}}, r"sites\.norm\.mlp_out: no part"),
    ],
)
def test_what_a_layout_does_not_wire_cannot_be_chosen(given, message):
    with pytest.raises(UserError, match=message):
        GPT.on_meta(make_spec(**given))
