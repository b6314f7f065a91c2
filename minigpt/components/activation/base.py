"""The activation axis: (..., n) -> (..., n), element by element."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from minigpt.components.base import BuildContext, Part
from minigpt.components.initialiser import Initialiser
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

    def operations_of_one(self) -> dict[str, int]:
        """What one element costs, where options decide."""
        return self.operations

    def cost(self, work: Work) -> Cost:
        n, params = work.elements, self.own_params()
        ops = {op: k * n for op, k in self.operations_of_one().items()}
        return Cost(
            params=params, weights_read={"native": params} if params else {}, ops=ops, activations=2 * n, passes=1
        )


class LearnedActivation(Activation):
    """An activation that learns one number, ``learned``: (1,) for all channels, or (width,) for each of them."""

    def __init__(self, first: float, per_channel: bool, width: int):
        Part.__init__(self)
        self.first = first
        self.learned = nn.Parameter(torch.empty(width if per_channel else 1))

    def init_parameters(self, init: Initialiser) -> None:
        init.constant(self.learned, self.first, "scalar" if len(self.learned) == 1 else "gain")
