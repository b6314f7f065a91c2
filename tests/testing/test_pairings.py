"""Parts put together at random hold the contracts, or say why they do not go together."""

from __future__ import annotations

import os

import pytest

from minigpt.errors import UserError
from minigpt.model import GPT
from minigpt.testing import CONTRACTS
from minigpt.testing.models import SIZES
from minigpt.testing.pairings import pairings

SEED = int(os.environ.get("PAIRINGS_SEED", "0"))
DRAWN = pairings(SEED)
HELD = (
    "gradients", "causal", "rows", "cached", "padding", "parameters", "products", "decode_adds_up", "operations",
    "activations", "state_memory", "state_traffic", "state_dict",
)  # fmt: skip


@pytest.mark.parametrize("case", DRAWN, ids=[f"seed{SEED}-{i}" for i in range(len(DRAWN))])
def test_parts_drawn_at_random_hold_the_contracts_or_refuse_each_other(case):
    try:
        GPT.on_meta(case.spec(**SIZES))
    except UserError:
        return
    for name in HELD:
        try:
            CONTRACTS[name].check(case)
        except Exception as error:
            pytest.fail(f"{name}: {error}\nPAIRINGS_SEED={SEED}: {case}")


def test_the_same_seed_draws_the_same_and_enough_of_it_can_be_built():
    assert pairings(SEED) == DRAWN
    assert pairings(SEED + 1) != DRAWN
    built = 0
    for case in DRAWN:
        try:
            GPT.on_meta(case.spec(**SIZES))
        except UserError:
            continue
        built += 1
    assert built >= len(DRAWN) // 20
