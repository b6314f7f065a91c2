"""Sampling: the distribution that is sampled from, and that it is the one."""

from __future__ import annotations

import math

import pytest
import torch

from minigpt.errors import UserError
from minigpt.generation.config import Sampling
from minigpt.generation.sampling import choose, draws, probabilities
from minigpt.schema import typed

LOGITS = torch.tensor([[0.5, 0.2, 0.1, 0.1, 0.1], [0.1, 0.6, 0.1, 0.15, 0.05]]).log()


def test_temperature_one_samples_the_softmax():
    assert torch.allclose(probabilities(LOGITS, Sampling(temperature=1.0)).float(), LOGITS.exp())


def test_temperature_sharpens_and_flattens():
    cold, hot = (probabilities(LOGITS, Sampling(temperature=t)) for t in (0.1, 10.0))
    assert (cold.max(dim=-1).values > 0.99).all()
    assert torch.allclose(hot, torch.full_like(hot, 0.2), atol=0.06)


@pytest.mark.parametrize("temperature", [1e-300, 1e-30, 1e30])
def test_extreme_temperatures_stay_a_distribution(temperature):
    weights = probabilities(1e4 * LOGITS, Sampling(temperature=temperature))
    assert weights.isfinite().all()
    assert torch.allclose(weights.sum(dim=-1), torch.ones(2, dtype=torch.float64))


def test_top_k_keeps_exactly_k_even_where_logits_are_equal():
    weights = probabilities(torch.zeros(3, 50), Sampling(top_k=7))
    assert ((weights > 0).sum(dim=-1) == 7).all()
    assert torch.equal(probabilities(LOGITS, Sampling(top_k=500)), probabilities(LOGITS, Sampling()))


def test_top_p_keeps_the_smallest_set_that_reaches_p_in_proportion():
    weights = probabilities(LOGITS, Sampling(temperature=1.0, top_p=0.65))
    assert torch.equal(
        weights > 0, torch.tensor([[True, True, False, False, False], [False, True, False, True, False]])
    )
    assert torch.allclose(weights[0, 0] / weights[0, 1], torch.tensor(2.5, dtype=torch.float64), rtol=1e-4)
    tiny = probabilities(LOGITS, Sampling(temperature=1.0, top_p=1e-9))
    assert (tiny > 0).sum(dim=-1).tolist() == [1, 1]


def test_greedy_and_top_1_take_the_likeliest():
    draw = torch.tensor([0.999, 0.0], dtype=torch.float64)
    for sampling in (Sampling(temperature=0), Sampling(top_k=1), Sampling(top_p=1e-9)):
        assert choose(LOGITS, sampling, draw).tolist() == [0, 1]


def test_samples_follow_the_distribution():
    sampling = Sampling(temperature=1.0, top_k=4)
    draw = draws(seed=0, batch=2, tokens=20_000)
    chosen = choose(LOGITS[0].expand(20_000, -1), sampling, draw[0])
    counts = torch.bincount(chosen, minlength=5) / 20_000
    expected = probabilities(LOGITS[:1], sampling)[0]
    assert torch.allclose(counts, (expected / expected.sum()).float(), atol=4 * math.sqrt(0.25 / 20_000))


def test_no_draw_lands_on_a_token_that_was_excluded():
    logits = torch.tensor([[-math.inf, 1.0, -math.inf, 0.0, -math.inf]]).expand(3, -1)
    draw = torch.tensor([0.0, 0.5, math.nextafter(1.0, 0.0)], dtype=torch.float64)
    assert choose(logits, Sampling(), draw).tolist() == [1, 1, 3]


def test_rows_and_seeds_never_share_their_draws():
    rows = torch.cat([draws(seed, 4, 16) for seed in range(4)])
    assert len({tuple(row.tolist()) for row in rows}) == 16
    assert torch.equal(draws(0, 2, 16), draws(0, 4, 16)[:2])
    assert torch.equal(draws(0, 2, 5), draws(0, 2, 16)[:, :5])


@pytest.mark.parametrize(
    "options", [{"temperature": -1}, {"top_k": 0}, {"top_p": 0.0}, {"top_p": 1.5}, {"temperature": "hot"}]
)
def test_values_that_mean_nothing_are_refused(options):
    with pytest.raises(UserError, match=next(iter(options))):
        typed(Sampling, options)
