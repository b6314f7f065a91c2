"""No attention."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from minigpt.components.attention.base import Attention
from minigpt.components.base import BuildContext
from minigpt.components.call import Call
from minigpt.cost import Cost, Work
from minigpt.registry import register


@register("attention", "identity")
class IdentityAttention(Attention):
    """y = x: tokens do not see each other.  torch.nn.Identity. What a model knows from the last token alone."""

    path = "nothing to compute"

    def __init__(self, config: Any, ctx: BuildContext):
        super().__init__()

    def forward(self, x: Tensor, call: Call, state: Any = None) -> Tensor:
        return x

    def cost(self, work: Work) -> Cost:
        return Cost()
