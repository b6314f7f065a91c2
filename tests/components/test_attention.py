"""Softmax attentions beside independent ones, and their two paths beside each other."""

from __future__ import annotations

import pytest
import torch
from rich.console import Console

from minigpt import registry
from minigpt.components.attention.base import Attention
from minigpt.components.attention.scores import SoftmaxAttention
from minigpt.model import GPT
from minigpt.testing import all_cases, make_spec
from minigpt.testing.models import SIZES, batch, create, decode, moved
from minigpt.training.display import describe
from tests.components.parts import part

NAMES = registry.names("attention")
FUSED = [
    case
    for case in all_cases([("attention", name) for name in NAMES])
    if isinstance(attention := GPT.on_meta(case.spec()).blocks[0].attention, SoftmaxAttention)
    and attention.obstacle is None
]


@pytest.mark.parametrize("case", FUSED, ids=str)
def test_the_fused_path_equals_the_explicit_one(case):
    model = moved(create(case.spec(**SIZES | {"dropout": 0.0}))).double().eval()
    answers = []
    for fused in (True, False):
        for attention in (each for each in model.modules() if isinstance(each, SoftmaxAttention)):
            attention.softmax.fused = fused
            assert attention.path.startswith("fused" if fused else "explicit")
        model.zero_grad()
        model(batch()).logits.square().mean().backward()
        with torch.no_grad():
            cached = decode(model, batch(), (5, 9, 1, 1))
        answers.append([model(batch()).logits, cached, *(p.grad for p in model.parameters())])
    for ours, theirs in zip(*answers, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_every_attention_says_how_it_is_computed(name):
    attention = part("attention", name)
    assert attention.path not in ("", Attention.path.fget(attention))


@pytest.mark.parametrize("share", [{}, {"attention": "run", "distinct": 1}])
def test_the_model_s_description_says_how_its_attention_is_computed(share, capsys):
    softcapped = {"name": "causal", "softcap": 2.0}
    describe(GPT.on_meta(make_spec(attention=softcapped, share=share)), Console(width=200))
    assert capsys.readouterr().out.count("explicit, for its softcap") == (2 if share else 1)
