"""The contracts every variant is held to, for ours and for yours: ``minigpt check my_plugin``.

A contract is a function ``check_<what>(case)`` that raises AssertionError with a sentence; ``CONTRACTS`` lists them. A
case is a variant as its class says it is to be tried. Nothing here needs pytest.
"""

from minigpt.testing import behaviour, choice, counts, keeping, state  # noqa: F401  (each lists its contracts)
from minigpt.testing.cases import Case, all_cases, cases_of, model_variants
from minigpt.testing.contract import CONTRACTS, Contract
from minigpt.testing.specs import make_spec

__all__ = ["CONTRACTS", "Case", "Contract", "all_cases", "cases_of", "make_spec", "model_variants"]
