"""Parts put together at random train and look back only, or say why they do not go together."""

from __future__ import annotations

import functools
import os

import pytest

from minigpt.errors import UserError
from minigpt.model import GPT
from minigpt.testing import CONTRACTS, Case
from minigpt.testing.models import SIZES
from minigpt.testing.pairings import check_trains_and_looks_back, pairings

SEED = int(os.environ.get("PAIRINGS_SEED", "0"))
DRAWN = pairings(SEED)
HELD_BY_SOME = (  # not gradients: an expert that no token chooses, or scores that a threshold cuts off, have none
    "causal", "rows", "cached", "padding", "parameters", "products", "decode_adds_up", "operations",
    "activations", "state_memory", "state_traffic", "state_dict",
)  # fmt: skip
SOME = 16
"""How many of those that can be built hold every one of these contracts, too."""


@functools.cache
def refusal(case: Case) -> str:
    """Why the parts do not go together, nothing when they do."""
    try:
        GPT.on_meta(case.spec(**SIZES))
    except UserError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("case", DRAWN, ids=[f"seed{SEED}-{i}" for i in range(len(DRAWN))])
def test_parts_drawn_at_random_train_and_look_back_only_or_refuse_each_other(case):
    if sentence := refusal(case):
        assert len(sentence) > 20, sentence
        assert len(sentence.splitlines()) <= 3, sentence
        return
    try:
        check_trains_and_looks_back(case)
    except Exception as error:
        pytest.fail(f"{error}\nPAIRINGS_SEED={SEED}: {case}")


@pytest.mark.parametrize("number", range(SOME))
def test_some_of_them_hold_the_contracts(number):
    built = (case for case in DRAWN if not refusal(case))
    case = next(case for place, case in enumerate(built) if place == number)
    for name in HELD_BY_SOME:
        try:
            CONTRACTS[name].check(case)
        except Exception as error:
            pytest.fail(f"{name}: {error}\nPAIRINGS_SEED={SEED}: {case}")


def test_the_same_seed_draws_the_same_and_enough_of_it_can_be_built():
    assert len(DRAWN) >= 500
    assert pairings(SEED) == DRAWN
    assert pairings(SEED + 1) != DRAWN
    built = sum(not refusal(case) for case in DRAWN)
    print(f"PAIRINGS_SEED={SEED}: {built} of {len(DRAWN)} go together")
    assert built >= len(DRAWN) // 4
