"""A contract: one thing every variant must hold, as a function that raises AssertionError with a sentence."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal

from minigpt.testing.cases import Case

Check = Callable[[Case], None]


@dataclasses.dataclass(frozen=True)
class Contract:
    """name: how it is listed. promise: what it holds, in words. over: every case, those with changed options, or the
    defaults alone. not_for: axes it says nothing about."""

    name: str
    promise: str
    check: Check
    over: Literal["cases", "options", "defaults"]
    not_for: frozenset[str]

    def applies(self, case: Case) -> bool:
        wanted = {"cases": True, "options": not case.is_default, "defaults": case.is_default}[self.over]
        return wanted and case.axis not in self.not_for


STARTS_ONLY = ("init",)
"""Axes whose variants say how a model starts and are no part of it: what it computes, and costs, is not their doing."""
CONTRACTS: dict[str, Contract] = {}
"""Every contract by name, in the order of their files."""


def contract(over: Literal["cases", "options", "defaults"] = "cases", not_for: tuple[str, ...] = ()):
    """Function decorator: list ``check_<name>(case)`` under its name, its docstring's first line as the promise."""

    def decorate(check: Check) -> Check:
        name = check.__name__.removeprefix("check_")
        promise = (check.__doc__ or "").strip().splitlines()[0]
        CONTRACTS[name] = Contract(name, promise, check, over, frozenset(not_for))
        return check

    return decorate


def require(holds: bool, sentence: str) -> None:
    """Raise AssertionError with a sentence unless it holds; works under ``python -O`` too."""
    if not holds:
        raise AssertionError(sentence)
