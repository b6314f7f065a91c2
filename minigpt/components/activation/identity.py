"""No activation."""

from __future__ import annotations

from torch import Tensor

from minigpt.components.activation.base import Activation
from minigpt.cost import Cost, Work
from minigpt.registry import register


@register("activation", "identity")
class IdentityActivation(Activation):
    """y = x: a linear MLP with ``mlp=mlp``, the bilinear gate of Shazeer 2020 (arXiv:2002.05202) with ``mlp=glu``."""

    def forward(self, x: Tensor) -> Tensor:
        return x

    def cost(self, work: Work) -> Cost:
        return Cost()
