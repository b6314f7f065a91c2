"""Swap any part of a GPT by name, train it, and see what the swap costs.

In Python: ``minigpt.train``, ``sweep``, ``load``, ``evaluate``, ``price`` and others (see :mod:`minigpt.api`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minigpt.api import Model, build, configure, evaluate, load, prepare, price, runs, sweep, train
    from minigpt.errors import UserError

__all__ = ["Model", "UserError", "build", "configure", "evaluate", "load", "prepare", "price", "runs", "sweep", "train"]


def __getattr__(name: str) -> Any:
    """Bring in the Python interface at its first use: commands that need none of it start without it."""
    if name not in __all__:
        raise AttributeError(f"module 'minigpt' has no attribute '{name}'")
    import importlib

    module = importlib.import_module("minigpt.errors" if name == "UserError" else "minigpt.api")
    return getattr(module, name)


def __dir__() -> list[str]:
    return __all__
