"""A learned scalar on what joins the stream, zero at first."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from minigpt.components.base import BuildContext
from minigpt.components.initialiser import Initialiser
from minigpt.components.residual.base import Place, Residual
from minigpt.cost import Cost, Work
from minigpt.registry import register


@register("residual", "rezero")
class ReZero(Residual):
    """x' = x + a y.  Bachlechner et al. 2020, arXiv:2003.04887. Learns a: (1,), which starts at 0, so that a block
    starts as the identity.
    """

    def __init__(self, config: Any, ctx: BuildContext, place: Place):
        super().__init__(config, ctx, place)
        self.scale = None if place == "model" else nn.Parameter(torch.empty(1))

    def init_parameters(self, init: Initialiser) -> None:
        if self.scale is not None:
            init.constant(self.scale, 0.0, "scalar")

    def write(self, stream: Tensor, update: Tensor) -> Tensor:
        assert self.scale is not None
        return stream + self.scale * update

    def join_cost(self, work: Work) -> Cost:
        n, params = work.elements, self.own_params()
        ops = {"mul": n, "add": n}
        return Cost(params=params, weights_read={"native": params}, ops=ops, activations=3 * n, passes=1)
