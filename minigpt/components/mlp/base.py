"""The mlp axis: the sub-layer that works on each token alone."""

from __future__ import annotations

from torch import Tensor

from minigpt.components.base import Part
from minigpt.components.call import Call
from minigpt.registry import declare

declare("mlp", default="glu", scope="block")


class FeedForward(Part):
    """Built as ``cls(config, ctx)``. x: (B, T, d_model) -> (B, T, d_model); no token sees another.

    silent: it adds nothing to the stream, so a layout builds no norm and no residual for it.
    """

    silent: bool = False

    def forward(self, x: Tensor, call: Call) -> Tensor:
        raise NotImplementedError
