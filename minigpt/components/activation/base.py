"""The activation axis: (..., n) -> (..., n), element by element."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from minigpt.components.base import BuildContext, Part
from minigpt.cost import Cost, Work
from minigpt.registry import declare

declare("activation", default="silu", scope="block")


class Activation(Part):
    """Built as ``cls(config, ctx, width)``, width: of the last dimension. operations: what one element costs."""

    operations: ClassVar[dict[str, int]]

    def __init__(self, config: Any, ctx: BuildContext, width: int):
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def cost(self, work: Work) -> Cost:
        n = work.elements
        return Cost(ops={op: k * n for op, k in self.operations.items()}, activations=2 * n, passes=1)
