"""The simplest correct PyTorch writing of each variant: what a test compares values and gradients with, and the
benchmark milliseconds.

A file per axis. A function takes the place of a method, with the same arguments; it reads parameters and options from
the part, and nothing else of it: no shared helper of the package, no cache (``state`` is None), no care for speed.

    @plain("softmax", "consmax")
    def consmax(part, scores):
        return torch.exp(scores - part.beta) / part.log_gamma.exp()
"""

from __future__ import annotations

import importlib
import pkgutil
import types
from collections.abc import Callable
from typing import Any

from minigpt.components.base import Part

Writing = Callable[..., Any]
PLAIN: dict[tuple[str, str], dict[str, Writing]] = {}
"""(axis, name) -> method -> the function that takes its place."""


def plain(axis: str, *names: str, method: str = "forward") -> Callable[[Writing], Writing]:
    """Function decorator: what ``method`` of these variants is, written plainly."""

    def note(writing: Writing) -> Writing:
        for name in names:
            PLAIN.setdefault((axis, name), {})[method] = writing
        return writing

    return note


def load() -> dict[tuple[str, str], dict[str, Writing]]:
    """All of them."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return PLAIN


def write_plainly(model: Any, axis: str, name: str) -> int:
    """Put the plain writing into every part of this name; returns how many there are."""
    found = [part for part in model.modules() if isinstance(part, Part) and _choice(part) == (axis, name)]
    for part in found:
        for method, writing in load()[axis, name].items():
            setattr(part, method, types.MethodType(writing, part))
        if getattr(part, "fused", False):
            part.fused = False  # a kernel that computes this softmax too would never call its writing
    return len(found)


def _choice(part: Part) -> tuple[str | None, str | None]:
    """The axis and name of a part; what a family of variants shares has none."""
    return getattr(part, "axis", None), getattr(part, "name", None)
