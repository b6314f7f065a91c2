"""Dynamic tanh: a norm that reduces nothing."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from minigpt.components.base import BuildContext
from minigpt.components.initialiser import Initialiser
from minigpt.components.norm.base import Norm
from minigpt.cost import Cost, Work
from minigpt.registry import register
from minigpt.schema import PositiveFloat, options


@register("norm", "dyt")
class DynamicTanh(Norm):
    """y = g * tanh(alpha x) + b.  Zhu et al. 2025, arXiv:2503.10622.

    x: (..., width) -> (..., width). Learns alpha: (1,), g: (width,), b: (width,). No statistics of the row: every
    element is ready as soon as it arrives. Nor is a small input brought to unit scale, as a norm would: with embeddings
    drawn at the usual std of 0.02 training starts on a long plateau, which ``init.std=0.1`` takes a small model off.
    """

    reductions = 0

    @options
    class Config:
        alpha_init: PositiveFloat = 1.0

    cases = [{"alpha_init": 0.5}]

    def __init__(self, config: Config, ctx: BuildContext, width: int):
        super().__init__()
        self.alpha = nn.Parameter(torch.empty(1))
        self.gain = nn.Parameter(torch.empty(width))
        self.bias = nn.Parameter(torch.empty(width))
        self.alpha_init = config.alpha_init

    def init_parameters(self, init: Initialiser) -> None:
        init.constant(self.alpha, self.alpha_init, "scalar")
        init.constant(self.gain, 1.0, "gain")
        init.constant(self.bias, 0.0, "bias")

    def forward(self, x: Tensor) -> Tensor:
        return self.gain * torch.tanh(self.alpha * x) + self.bias

    def cost(self, work: Work) -> Cost:
        n, params = work.elements, self.own_params()
        ops = {"mul": 2 * n, "add": n, "tanh": n}
        return Cost(params=params, weights_read={"native": params}, ops=ops, activations=2 * n, reductions=0, passes=1)
