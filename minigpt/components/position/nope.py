"""No position encoding."""

from __future__ import annotations

from minigpt.components.base import BuildContext
from minigpt.components.position.base import Position
from minigpt.cost import Cost, Work
from minigpt.registry import register
from minigpt.schema import options


@register("position", "nope")
class NoPosition(Position):
    """Nothing: the causal mask alone tells tokens apart.  Kazemnejad et al. 2023, arXiv:2305.19466."""

    kind = "none"

    @options
    class Config:
        pass

    def __init__(self, config: Config, ctx: BuildContext):
        super().__init__()

    def cost(self, work: Work) -> Cost:
        return Cost()
