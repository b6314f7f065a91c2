"""No position encoding."""

from __future__ import annotations

from minigpt.components.position.base import Position
from minigpt.registry import register


@register("position", "nope")
class NoPosition(Position):
    """y_t = x_t: the causal mask alone tells tokens apart.  Kazemnejad et al. 2023, arXiv:2305.19466."""

    places = frozenset()
