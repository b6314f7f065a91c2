"""A learned scale per channel on what joins the stream."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from minigpt.components.base import BuildContext
from minigpt.components.initialiser import Initialiser
from minigpt.components.residual.base import Place, Residual
from minigpt.cost import Cost, Work
from minigpt.registry import register
from minigpt.schema import options


@register("residual", "layerscale")
class LayerScale(Residual):
    """x' = x + g * y.  Touvron et al. 2021 (CaiT), arXiv:2103.17239. Learns g: (d_model,), which starts at
    ``scale_init``.
    """

    @options
    class Config:
        scale_init: float = 0.1

    cases = [{"scale_init": 0.5}]

    def __init__(self, config: Config, ctx: BuildContext, place: Place):
        super().__init__(config, ctx, place)
        self.scale = None if place == "model" else nn.Parameter(torch.empty(ctx.d_model))
        self.scale_init = config.scale_init

    def init_parameters(self, init: Initialiser) -> None:
        if self.scale is not None:
            init.constant(self.scale, self.scale_init, "gain")

    def write(self, stream: Tensor, update: Tensor) -> Tensor:
        assert self.scale is not None
        return stream + self.scale * update

    def join_cost(self, work: Work) -> Cost:
        n, params = work.elements, self.own_params()
        ops = {"mul": n, "add": n}
        return Cost(params=params, weights_read={"native": params}, ops=ops, activations=3 * n, passes=1)
