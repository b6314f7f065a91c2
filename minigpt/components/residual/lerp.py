"""The stream and what joins it, in shares of one."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor, nn

from minigpt.components.base import BuildContext
from minigpt.components.initialiser import Initialiser
from minigpt.components.residual.base import Place, Residual
from minigpt.cost import Cost, Work
from minigpt.errors import UserError
from minigpt.registry import register
from minigpt.schema import Range, options


@register("residual", "lerp")
class Lerp(Residual):
    """x' = x + a (y - x) = (1 - a) x + a y.  With a per channel the step of nGPT, Loshchilov et al. 2024,
    arXiv:2410.01131.

    Learns a: (1,), or (d_model,) with ``per_channel``; with learned=false it stays at ``share_init``.
    """

    @options
    class Config:
        share_init: Annotated[float, Range(gt=0, lt=1)] = 0.1
        learned: bool = True
        per_channel: bool = False

    cases = [{"share_init": 0.5}, {"learned": False}, {"per_channel": True}]
    changes = {"learned": "gradient", "per_channel": "gradient"}

    def __init__(self, config: Config, ctx: BuildContext, place: Place):
        super().__init__(config, ctx, place)
        if config.per_channel and not config.learned:
            raise UserError(
                "residual.per_channel: a share that is not learned is the same for every channel. "
                "Set residual.learned=true, or per_channel=false"
            )
        self.share_init = config.share_init
        width = ctx.d_model if config.per_channel else 1
        learns = config.learned and place != "model"
        self.share = nn.Parameter(torch.empty(width)) if learns else None

    def init_parameters(self, init: Initialiser) -> None:
        if self.share is not None:
            init.constant(self.share, self.share_init, "gain" if len(self.share) > 1 else "scalar")

    def write(self, stream: Tensor, update: Tensor) -> Tensor:
        share = self.share_init if self.share is None else self.share.to(stream.dtype)
        return torch.lerp(stream, update.to(stream.dtype), share)

    def join_cost(self, work: Work) -> Cost:
        n, params = work.elements, self.own_params()
        ops = {"sub": n, "mul": n, "add": n}
        return Cost(params=params, weights_read={"native": params}, ops=ops, activations=3 * n, passes=1)
