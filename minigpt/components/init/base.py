"""The init axis: how matrices start."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from minigpt.components.initialiser import Slot
from minigpt.registry import declare

declare("init", default="gpt2", scope="model")


class InitPolicy:
    """Built as ``cls(config)``. Gains, biases and scalars start where their component says; matrices start here.

    A policy decides by the :class:`Slot`: role, fan-in, fan-out, layer, name. particular: whether some models are not
    for it, so that :meth:`check` is asked when one is built. cases, changes: as of a component.
    """

    particular: ClassVar[bool] = False
    cases: ClassVar[Sequence[Mapping[str, Any]]] = ()
    changes: ClassVar[Mapping[str, str]] = {}

    def std(self, slot: Slot) -> float:
        """Standard deviation of a matrix; 0 starts it at zero."""
        raise NotImplementedError

    def fill(self, values: Tensor, slot: Slot, generator: torch.Generator) -> None:
        """Draw ``values`` in place."""
        std = self.std(slot)
        if std == 0:
            values.zero_()
        else:
            values.normal_(0.0, std, generator=generator)

    def rate(self, slot: Slot) -> float:
        """Factor on the learning rate of a matrix; everything else learns at the rate itself."""
        return 1.0

    def check(self, slots: Iterable[Slot]) -> None:
        """Raise UserError for a model that this policy cannot start."""


class NormalInit(InitPolicy):
    """Normal with standard deviation ``config.std``, but for what a subclass treats otherwise."""

    def __init__(self, config: Any):
        self.base = config.std

    def std(self, slot: Slot) -> float:
        return self.base
