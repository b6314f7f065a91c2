"""The one door to the package ``pytorch_optimizer``: it is imported when an optimizer of it is built, not before."""

from __future__ import annotations

import inspect
from typing import Any

import torch

_READ_FROM_GROUPS = {"cautious", "adam_debias"}
"""Options that are in no signature of the package, which reads them from a group all the same."""


def packaged(kind: str, groups: list[dict[str, Any]], **options: Any) -> torch.optim.Optimizer:
    """An optimizer of the package, by the name of its class.

    Its classes take any keyword and forget those they do not know: one of ours that it forgot would be an option
    without effect, so that is an error.
    """
    import pytorch_optimizer

    cls = getattr(pytorch_optimizer, kind)
    forgotten = options.keys() - inspect.signature(cls).parameters.keys() - _READ_FROM_GROUPS
    if forgotten:
        raise AssertionError(f"pytorch_optimizer.{kind} does not read {', '.join(sorted(forgotten))}")
    built: torch.optim.Optimizer = cls(groups, **options)
    return built
