"""What every registered variant must hold, on every axis, as its class says it is to be tried: ``minigpt.testing``."""

from __future__ import annotations

import pytest

from minigpt.testing import CONTRACTS, all_cases

HELD = [(case, contract) for case in all_cases() for contract in CONTRACTS.values() if contract.applies(case)]


@pytest.mark.parametrize(("case", "contract"), HELD, ids=[f"{contract.name}-{case}" for case, contract in HELD])
def test_a_variant_holds_a_contract(case, contract):
    contract.check(case)
