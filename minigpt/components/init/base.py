"""The init axis: how matrices start, by role."""

from __future__ import annotations

import torch
from torch import Tensor

from minigpt.components.base import Role


class InitPolicy:
    """Built as ``cls(config)``. Gains, biases and scalars start where their component says; matrices start here."""

    def std(self, role: Role, fan_in: int, n_layer: int) -> float:
        """Standard deviation of a matrix of this role; 0 starts it at zero."""
        raise NotImplementedError

    def fill(self, values: Tensor, role: Role, fan_in: int, n_layer: int, generator: torch.Generator) -> None:
        """Draw ``values`` in place."""
        std = self.std(role, fan_in, n_layer)
        if std == 0:
            values.zero_()
        else:
            values.normal_(0.0, std, generator=generator)
