"""The plain residual connection."""

from __future__ import annotations

from torch import Tensor

from minigpt.components.base import BuildContext
from minigpt.components.residual.base import Residual
from minigpt.cost import Cost, Work
from minigpt.registry import register
from minigpt.schema import options


@register("residual", "add")
class Add(Residual):
    """x + y.  He et al. 2015, arXiv:1512.03385."""

    @options
    class Config:
        pass

    def __init__(self, config: Config, ctx: BuildContext):
        super().__init__()

    def forward(self, stream: Tensor, update: Tensor) -> Tensor:
        return stream + update

    def cost(self, work: Work) -> Cost:
        return Cost(ops={"add": work.elements}, activations=3 * work.elements, passes=1)
