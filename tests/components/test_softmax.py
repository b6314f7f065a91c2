"""Softmaxes: masks, published formulas and numbers in double precision, other implementations."""

from __future__ import annotations

import math

import pytest
import torch

from minigpt import registry
from minigpt.components.call import Span
from minigpt.errors import UserError
from minigpt.testing import make_spec
from tests.components.parts import DEVICE, above_diagonal, part, values


@pytest.mark.parametrize("name", registry.names("softmax"))
def test_masked_scores_get_no_weight_and_no_gradient(name):
    softmax = part("softmax", name)
    scores = values(1, 4, 6, 6).masked_fill(above_diagonal(6), -math.inf).requires_grad_()
    weights = softmax(scores)
    assert (weights[..., above_diagonal(6)] == 0).all()
    weights.square().sum().backward()
    assert scores.grad.isfinite().all()
    assert (scores.grad[..., above_diagonal(6)] == 0).all()


@pytest.mark.parametrize("name", [n for n in registry.names("softmax") if registry.get("softmax", n).normalised])
def test_normalised_rows_sum_to_one_for_scores_of_any_size(name):
    for size in (1e-4, 1.0, 1e4):
        weights = part("softmax", name)(size * values(1, 4, 3, 8))
        assert weights.isfinite().all()
        torch.testing.assert_close(weights.sum(-1), torch.ones(1, 4, 3))


def test_softmax_is_the_definition():
    scores = values(1, 4, 3, 8).double()
    torch.testing.assert_close(part("softmax", "softmax")(scores), scores.exp() / scores.exp().sum(-1, keepdim=True))


@pytest.mark.parametrize("online", [True, False])
def test_softermax_is_softmax_in_base_two(online):
    scores = values(1, 4, 3, 8).double()
    expected = torch.softmax(scores * math.log(2), dim=-1)
    torch.testing.assert_close(part("softmax", "softermax", online=online)(scores), expected)


@pytest.mark.parametrize("per_head", [True, False])
def test_consmax_is_the_paper_s_formula_and_folds_into_one_constant(per_head):
    consmax, scores = part("softmax", "consmax", per_head=per_head), values(2, 4, 3, 8)
    gamma = consmax.log_gamma.exp()
    torch.testing.assert_close(consmax(scores), torch.exp(scores - consmax.beta) / gamma)
    constant = torch.exp(-consmax.beta) / gamma
    torch.testing.assert_close(consmax(scores), constant * scores.exp())


def test_consmax_starts_at_the_published_constants():
    from minigpt.model import GPT

    softmax = GPT.create(make_spec(softmax="consmax")).blocks[0].attention.softmax
    assert softmax.beta.item() == pytest.approx(2.5)
    assert softmax.log_gamma.exp().item() == pytest.approx(100.0, rel=1e-5)


def test_relumax_divides_by_its_divisor_or_by_the_keys_a_row_may_see():
    scores = values(1, 4, 5, 5).masked_fill(above_diagonal(5), -math.inf)
    torch.testing.assert_close(part("softmax", "relumax")(scores), scores.clamp_min(0) / 256)
    visible = torch.arange(1, 6).view(5, 1)
    torch.testing.assert_close(part("softmax", "relumax", length_scale=True)(scores), scores.clamp_min(0) / visible)


@pytest.mark.parametrize(
    "options", [{"init": 0.5}, {"learned": True, "init": -1.0}, {"learned": True, "per_head": True}]
)
def test_softmax1_is_the_paper_s_formula_for_scores_of_any_size(options):
    softmax1, scores = part("softmax", "softmax1", **options).double(), values(1, 4, 3, 8).double()
    constant = softmax1.c.exp()
    torch.testing.assert_close(softmax1(scores), scores.exp() / (constant + scores.exp().sum(-1, keepdim=True)))
    for size in (-1e4, 1e4):  # a sum alone would be 0 or infinite
        assert softmax1(scores * size).isfinite().all()
    assert softmax1(scores - 1e4).sum() == 0


SINKS = [{}, {"learned": True, "per_head": True}]
AROUND = {
    "plain": {},
    "window": {"attention": {"name": "causal", "window": 5}},
    "gqa": {"attention": {"name": "causal", "n_kv_head": 2}, "position": "alibi"},
    "uneven groups": {"attention": {"name": "causal", "n_kv_head": 3}, "position": "nope"},
}


@pytest.mark.parametrize("options", SINKS, ids=str)
@pytest.mark.parametrize("around", AROUND)
def test_softmax1_on_the_fused_path_is_the_explicit_one_in_values_and_gradients(options, around):
    spec = make_spec(softmax={"name": "softmax1"} | options, **AROUND[around])
    attention = spec.context(0).build("attention").double()
    for module in attention.modules():
        getattr(module, "init_buffers", lambda: None)()
    with torch.no_grad():
        attention.softmax.c.copy_(values(*attention.softmax.c.shape))
    assert attention._takes_fused
    padding = torch.tensor([0, 3])
    for span in (Span(0, 16, DEVICE), Span(0, 16, DEVICE, padding), Span(15, 1, DEVICE), Span(12, 4, DEVICE, padding)):
        found = []
        for attend in (attention.attend_fused, attention.attend_explicitly):
            q = values(2, 4, span.length, 8).double().requires_grad_()
            k, v = (values(2, attention.n_kv_head, 16, 8).double().add(n).requires_grad_() for n in (1, -1))
            y = attend(q, k, v, span, torch.arange(16))
            learned = list(attention.softmax.parameters())
            found.append([y, *torch.autograd.grad(y.square().sum(), [q, k, v, *learned])])
        for fused, explicit in zip(*found, strict=True):
            torch.testing.assert_close(fused, explicit)


def test_softmax1_refuses_heads_apart_that_learn_nothing():
    with pytest.raises(UserError, match=r"softmax\.per_head: does nothing.*Set softmax\.learned=true"):
        part("softmax", "softmax1", per_head=True)
