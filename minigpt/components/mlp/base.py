"""The mlp axis: the sub-layer that works on each token alone."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from minigpt.components.base import Part
from minigpt.components.call import Call
from minigpt.registry import declare

declare("mlp", default="glu", scope="block")


class FeedForward(Part):
    """Built as ``cls(config, ctx)``. x: (B, T, d_model) -> (B, T, d_model); no token sees another.

    silent: it adds nothing to the stream, so a layout builds no norm and no residual for it. input_maps: attributes of
    the linear maps that are all that reads x, if that is so.
    """

    silent: bool = False
    input_maps: ClassVar[tuple[str, ...]] = ()

    def forward(self, x: Tensor, call: Call) -> Tensor:
        raise NotImplementedError
