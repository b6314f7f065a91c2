"""The norm axis: (..., width) -> (..., width)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from minigpt.components.base import Part
from minigpt.components.initialiser import Initialiser
from minigpt.registry import declare

declare("norm", default="rmsnorm", scope="block")


class Norm(Part):
    """Built as ``cls(config, ctx, width)``. reductions: row-wide reductions before the first output.

    deferred: its output is a :class:`~minigpt.components.deferred.Deferred`, which only linear maps can read.
    """

    reductions: int
    deferred: ClassVar[bool] = False

    def forward(self, x: Tensor) -> Tensor:
        raise NotImplementedError


class RowScaledNorm(Norm):
    """y = g * s x, with one number s per row: :meth:`row_scale`. Learns g: (width,), unless there is no ``gain``."""

    def __init__(self, width: int, gain: bool):
        super().__init__()
        self.gain = nn.Parameter(torch.empty(width)) if gain else None

    def init_parameters(self, init: Initialiser) -> None:
        if self.gain is not None:
            init.constant(self.gain, 1.0, "gain")

    def row_scale(self, x: Tensor) -> Tensor:
        """x: (..., width) in at least single precision, in which squares do not overflow -> (..., 1)."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        y = wide * self.row_scale(wide)
        return (y if self.gain is None else y * self.gain).to(x.dtype)
