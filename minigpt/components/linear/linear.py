"""The plain linear map."""

from __future__ import annotations

from minigpt.components.linear.base import LinearMap
from minigpt.registry import register
from minigpt.schema import options


@register("linear", "linear")
class Linear(LinearMap):
    """y = x W^T + b in the working precision."""

    @options
    class Config:
        pass
