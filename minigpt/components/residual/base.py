"""The residual axis: how a sub-layer's output joins the stream."""

from __future__ import annotations

from torch import Tensor

from minigpt.components.base import Part


class Residual(Part):
    """Built as ``cls(config, ctx)``. stream, update: (B, T, d_model) -> (B, T, d_model)."""

    def forward(self, stream: Tensor, update: Tensor) -> Tensor:
        raise NotImplementedError
