"""The plain residual connection."""

from __future__ import annotations

from torch import Tensor

from minigpt.components.residual.base import Residual
from minigpt.cost import Cost, Work
from minigpt.registry import register


@register("residual", "add")
class Add(Residual):
    """x' = x + y, y what a sub-layer made of x.  He et al. 2015, arXiv:1512.03385."""

    def write(self, stream: Tensor, update: Tensor) -> Tensor:
        return stream + update

    def join_cost(self, work: Work) -> Cost:
        return Cost(ops={"add": work.elements}, activations=3 * work.elements, passes=1)
