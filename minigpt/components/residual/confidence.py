"""Each update is scaled by how sure of it the token is."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from minigpt.components.base import BuildContext
from minigpt.components.initialiser import Initialiser
from minigpt.components.residual.base import Place, Residual
from minigpt.cost import Cost, Matmul, Work
from minigpt.registry import register


@register("residual", "confidence")
class Confidence(Residual):
    """x' = x + (<y, v> + c) y: a sub-layer's output is scaled, token by token, by a linear reading of itself.

    No paper; in use in ReaLLM-Forge, a fork of nanoGPT. y: (B, T, d_model) -> confidence (B, T, 1). Learns v:
    (d_model,), which starts at 0, and c: (1,), at 1: it starts as plain addition.
    """

    def __init__(self, config: Any, ctx: BuildContext, place: Place):
        super().__init__(config, ctx, place)
        self.weight = None if place == "model" else nn.Parameter(torch.empty(ctx.d_model))
        self.constant = None if place == "model" else nn.Parameter(torch.empty(1))

    def init_parameters(self, init: Initialiser) -> None:
        if self.weight is not None and self.constant is not None:
            init.constant(self.weight, 0.0, "gain")
            init.constant(self.constant, 1.0, "scalar")

    def write(self, stream: Tensor, update: Tensor) -> Tensor:
        assert self.weight is not None
        assert self.constant is not None
        confidence = update @ self.weight[:, None] + self.constant  # (B, T, 1)
        return stream + confidence * update

    def join_cost(self, work: Work) -> Cost:
        n, rows, params = work.elements, work.rows, self.own_params()
        return Cost(
            params=params,
            weights_read={"native": params},
            matmuls=(Matmul(rows, n // rows, 1),),
            ops={"mul": n, "add": n + rows},
            activations=3 * n,
            reductions=1,
            passes=2,
        )
