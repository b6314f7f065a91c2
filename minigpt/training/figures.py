"""What was measured since the last log line: sums that stay on the device until the line is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from minigpt.errors import UserError

STANDING = frozenset(
    {
        "step",
        "tokens",
        "seconds",
        "train_loss",
        "lr",
        "grad_norm",
        "tokens_per_second",
        "val_loss",
        "bits_per_byte",
        "val_loss_mean",
    }
)
"""Names that every run's log lines use; nothing a task or a model measures may be called so."""


class Window:
    """Means of named figures over micro-batches. Adding never waits for the device; :meth:`means` does."""

    def __init__(self, device: torch.device, stored: Mapping[str, tuple[int, Any]] | None = None):
        self.counts = {name: count for name, (count, _) in (stored or {}).items()}
        self.sums = {name: torch.tensor(total, device=device) for name, (_, total) in (stored or {}).items()}

    def add(self, figures: Mapping[str, Tensor]) -> None:
        """figures: 0-d or 1-d tensors by name."""
        for name, value in figures.items():
            value = value.detach().float()
            if name in self.sums:
                self.sums[name] += value
                self.counts[name] += 1
            else:
                self.sums[name], self.counts[name] = value.clone(), 1

    def means(self) -> dict[str, float]:
        """Every mean by name; the values of a vector as ``name.0``, ``name.1``, ..."""
        found: dict[str, float] = {}
        for name, total in self.sums.items():
            mean: Any = (total / self.counts[name]).tolist()
            if total.ndim:
                found.update((f"{name}.{i}", each) for i, each in enumerate(mean))
            else:
                found[name] = mean
        return found

    def clear(self) -> None:
        self.sums, self.counts = {}, {}

    def stored(self) -> dict[str, tuple[int, Any]]:
        """Plain values that make an equal window."""
        return {name: (self.counts[name], total.tolist()) for name, total in self.sums.items()}


def named(task: Mapping[str, Tensor], losses: Mapping[str, Tensor], metrics: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The figures of a micro-batch under one roof; raises UserError for a name that is taken."""
    sources = {"the task": task, "a part's auxiliary loss": losses, "a part's metric": metrics}
    taken = dict.fromkeys(STANDING, "every log line")
    found: dict[str, Tensor] = {}
    for source, figures in sources.items():
        for name, value in figures.items():
            if name in taken:
                raise UserError(f"figure '{name}' of {source}: the name is one of {taken[name]}. Give it another")
            taken[name] = source
            found[name] = value
    return found
