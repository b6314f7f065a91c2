"""The plain linear map."""

from __future__ import annotations

from minigpt.components.linear.base import LinearMap
from minigpt.registry import register


@register("linear", "linear")
class Linear(LinearMap):
    """y = x W^T + b in the working precision."""
