"""Consistent softmax: attention weights without a reduction over the row."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from minigpt.components.base import BuildContext
from minigpt.components.initialiser import Initialiser
from minigpt.components.softmax.base import Softmax
from minigpt.cost import Cost, Work
from minigpt.registry import register
from minigpt.schema import PositiveFloat, options


@register("softmax", "consmax")
class ConSmax(Softmax):
    """y = exp(s - beta) / gamma, with learned beta and gamma instead of the row's max and sum.

    Liu et al., ICCAD 2024, arXiv:2402.10930. Rows do not sum to one. Because nothing is reduced, a row streams through
    hardware element by element; at inference both constants fold into one: y = C * exp(s), C = exp(-beta) / gamma.
    Cost is that hardware form: exp(s) as the product of two table reads (high and low half of s), times C - folded into
    the tables unless every head has its own.

    Learns beta and gamma, one each, or one per head: (H, 1, 1).
    """

    normalised = False
    reductions = 0

    @options
    class Config:
        beta_init: float = 2.5
        gamma_init: PositiveFloat = 100.0  # gamma is stored as its logarithm, so that it stays positive
        per_head: bool = False

    cases = [{"beta_init": 1.0}, {"gamma_init": 20.0}, {"per_head": True}]

    def __init__(self, config: Config, ctx: BuildContext):
        super().__init__()
        shape = (ctx.n_head, 1, 1) if config.per_head else (1,)
        self.beta = nn.Parameter(torch.empty(shape))
        self.log_gamma = nn.Parameter(torch.empty(shape))
        self.config = config

    def init_parameters(self, init: Initialiser) -> None:
        init.constant(self.beta, self.config.beta_init, "scalar")
        init.constant(self.log_gamma, math.log(self.config.gamma_init), "scalar")

    def forward(self, scores: Tensor) -> Tensor:
        return torch.exp(scores - (self.beta + self.log_gamma))

    def hardware_form(self, work: Work) -> dict[str, int]:
        """Torch subtracts the constants and takes an exponential; in hardware they are folded into two tables."""
        n = work.elements
        return {"add": n, "exp": n, "lut": -2 * n, "mul": (-2 if self.config.per_head else -1) * n}

    def cost(self, work: Work) -> Cost:
        n, params = work.elements, self.own_params()
        ops = {"lut": 2 * n, "mul": (2 if self.config.per_head else 1) * n}
        return Cost(params=params, weights_read={"native": params}, ops=ops, activations=2 * n, reductions=0, passes=1)
