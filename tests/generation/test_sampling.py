"""Sampling: the distribution that is sampled from, and that it is the one."""

from __future__ import annotations

import math

import pytest
import torch
import transformers

from minigpt.errors import UserError
from minigpt.generation.config import Sampling
from minigpt.generation.sampling import Draws, choose, penalised, probabilities
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


@pytest.mark.parametrize("tokens", [40, 3000])
def test_top_p_keeps_no_more_than_it_needs_where_tokens_are_equally_likely(tokens):
    for logits in (torch.zeros(2, tokens), torch.randn(3, tokens, generator=torch.Generator().manual_seed(0)).round()):
        for top_p in (1e-9, 0.3, 0.5, 0.999):
            kept = probabilities(logits, Sampling(temperature=1.0, top_p=top_p))
            assert (kept.sum(dim=-1) >= top_p - 1e-12).all()
            least = torch.where(kept > 0, kept, 1.0).amin(dim=-1)
            assert (kept.sum(dim=-1) - least < top_p + 1e-12).all()
            excluded = torch.where(kept > 0, -math.inf, logits.double()).amax(dim=-1)
            assert (excluded <= torch.where(kept > 0, logits.double(), math.inf).amin(dim=-1)).all()


def test_greedy_and_top_1_take_the_likeliest():
    draw = torch.tensor([0.999, 0.0], dtype=torch.float64)
    for sampling in (Sampling(temperature=0), Sampling(top_k=1), Sampling(top_p=1e-9)):
        assert choose(LOGITS, sampling, draw).tolist() == [0, 1]


def test_samples_follow_the_distribution():
    sampling = Sampling(temperature=1.0, top_k=4)
    draw = Draws(seed=0, rows=2).next(20_000)
    chosen = choose(LOGITS[0].expand(20_000, -1), sampling, draw[0])
    counts = torch.bincount(chosen, minlength=5) / 20_000
    expected = probabilities(LOGITS[:1], sampling)[0]
    assert torch.allclose(counts, (expected / expected.sum()).float(), atol=4 * math.sqrt(0.25 / 20_000))


def test_no_draw_lands_on_a_token_that_was_excluded():
    logits = torch.tensor([[-math.inf, 1.0, -math.inf, 0.0, -math.inf]]).expand(3, -1)
    draw = torch.tensor([0.0, 0.5, math.nextafter(1.0, 0.0)], dtype=torch.float64)
    assert choose(logits, Sampling(), draw).tolist() == [1, 1, 3]


def test_rows_and_seeds_never_share_their_draws():
    rows = torch.cat([Draws(seed, 4).next(16) for seed in range(4)])
    assert len({tuple(row.tolist()) for row in rows}) == 16
    assert torch.equal(rows[:2], Draws(0, 2).next(16))
    assert torch.equal(rows[:2], torch.cat([(draws := Draws(0, 2)).next(5), draws.next(11)], dim=1))
    assert torch.equal(torch.cat([Draws(seed, 1).next(16) for seed in (3, 0, 3)]), Draws([3, 0, 3], 3).next(16))


@pytest.mark.parametrize(
    "options",
    [
        {"top_k": 3}, {"top_p": 0.7}, {"min_p": 0.2}, {"top_k": 600, "top_p": 0.3, "min_p": 0.05},
        {"top_k": 9, "top_p": 0.95}, {"min_p": 0.0}, {"min_p": 1.0}, {"top_p": 1.0},
        {"temperature": 3.0, "top_p": 0.99},
    ],
    ids=str,
)  # fmt: skip
def test_what_may_be_drawn_and_how_likely_equals_transformers(options):
    logits = 3 * torch.randn(4, 2000, generator=torch.Generator().manual_seed(0))
    sampling = Sampling(**{"temperature": 0.7} | options)
    warpers = [transformers.TemperatureLogitsWarper(sampling.temperature)]
    warpers += [transformers.TopKLogitsWarper(sampling.top_k)] if sampling.top_k else []
    warpers += [transformers.TopPLogitsWarper(sampling.top_p)] if sampling.top_p else []
    warpers += [transformers.MinPLogitsWarper(sampling.min_p)] if sampling.min_p is not None else []
    expected = logits.double()
    for warper in warpers:
        expected = warper(None, expected)
    ours = probabilities(logits, sampling)
    torch.testing.assert_close(ours / ours.sum(dim=-1, keepdim=True), expected.softmax(dim=-1))


def test_the_repetition_penalty_equals_transformers():
    logits = torch.randn(2, 50, generator=torch.Generator().manual_seed(0))
    text = torch.tensor([[3, 4, 3, 9], [49, 0, 7, 7]])
    seen = torch.zeros(2, 50, dtype=torch.bool).scatter(1, text, True)
    for penalty in (0.5, 1.3):
        theirs = transformers.RepetitionPenaltyLogitsProcessor(penalty)(text, logits)
        assert torch.equal(penalised(logits, seen, penalty), theirs)


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": -1},
        {"min_p": 1.1},
        {"min_p": -0.1},
        {"repetition_penalty": 0.0},
        {"top_k": 0},
        {"top_p": 0.0},
        {"top_p": 1.5},
        {"temperature": "hot"},
    ],
)
def test_values_that_mean_nothing_are_refused(options):
    with pytest.raises(UserError, match=next(iter(options))):
        typed(Sampling, options)


@pytest.mark.parametrize("options", [{"top_k": 5}, {"top_p": 1.0}, {"min_p": 0.1}])
def test_what_would_do_nothing_beside_temperature_0_is_refused(options):
    with pytest.raises(UserError, match=f"{next(iter(options))}: does nothing with temperature=0"):
        typed(Sampling, {"temperature": 0, **options})
