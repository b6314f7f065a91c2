"""No attention."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from minigpt.components.attention.base import Attention
from minigpt.components.base import BuildContext, Span
from minigpt.cost import Cost, Work
from minigpt.registry import register
from minigpt.schema import options


@register("attention", "identity")
class IdentityAttention(Attention):
    """y = x: tokens do not see each other. What a model knows from the last token alone."""

    @options
    class Config:
        pass

    def __init__(self, config: Config, ctx: BuildContext):
        super().__init__()

    def forward(self, x: Tensor, span: Span, state: Any = None) -> Tensor:
        return x

    def cost(self, work: Work) -> Cost:
        return Cost()
