"""Dynamic erf: a norm that reduces nothing."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from minigpt.components.base import BuildContext
from minigpt.components.initialiser import Initialiser
from minigpt.components.norm.base import Norm
from minigpt.cost import Cost, Work
from minigpt.registry import register
from minigpt.schema import PositiveFloat, options


@register("norm", "derf")
class DynamicErf(Norm):
    """y = g * erf(alpha x + s) + b.  Chen et al. 2025, arXiv:2512.10938.

    x: (..., width) -> (..., width). Learns alpha and s: (1,), g and b: (width,). Like DyT it needs no statistics of the
    row, and leaves small inputs small.
    """

    reductions = 0

    @options
    class Config:
        alpha_init: PositiveFloat = 0.5
        shift_init: float = 0.0

    cases = [{"alpha_init": 1.0}, {"shift_init": 0.5}]

    def __init__(self, config: Config, ctx: BuildContext, width: int):
        super().__init__()
        self.alpha, self.shift = nn.Parameter(torch.empty(1)), nn.Parameter(torch.empty(1))
        self.gain, self.bias = nn.Parameter(torch.empty(width)), nn.Parameter(torch.empty(width))
        self.alpha_init, self.shift_init = config.alpha_init, config.shift_init

    def init_parameters(self, init: Initialiser) -> None:
        init.constant(self.alpha, self.alpha_init, "scalar")
        init.constant(self.shift, self.shift_init, "scalar")
        init.constant(self.gain, 1.0, "gain")
        init.constant(self.bias, 0.0, "bias")

    def forward(self, x: Tensor) -> Tensor:
        return torch.addcmul(self.bias, self.gain, torch.erf(torch.addcmul(self.shift, self.alpha, x)))

    def cost(self, work: Work) -> Cost:
        n, params = work.elements, self.own_params()
        ops = {"mul": 2 * n, "add": 2 * n, "erf": n}
        return Cost(params=params, weights_read={"native": params}, ops=ops, activations=2 * n, reductions=0, passes=1)
