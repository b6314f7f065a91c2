"""What the variants of ConSmax share: two learned constants in place of a row's maximum and sum."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from minigpt.components.base import BuildContext
from minigpt.components.initialiser import Initialiser
from minigpt.components.softmax.base import Softmax
from minigpt.cost import Cost, Work


class Consistent(Softmax):
    """y = base^(s - beta) / gamma.  Learns beta and log gamma, one each, or one per head: (H, 1, 1).

    Cost is the hardware form: base^s as the product of two table reads (high and low half of s), times
    C = base^-beta / gamma - folded into the tables unless every head has its own. compared: comparisons of an element.
    beside: what torch does otherwise for one element.
    """

    normalised = False
    reductions = 0
    compared = 0
    beside: Mapping[str, int] = {"add": 1, "exp": 1}

    def __init__(self, ctx: BuildContext, beta_init: float, gamma_init: float, per_head: bool, base: float = math.e):
        super().__init__()
        shape = (ctx.n_head, 1, 1) if per_head else (1,)
        self.beta = nn.Parameter(torch.empty(shape))
        self.log_gamma = nn.Parameter(torch.empty(shape))
        self.starts = beta_init, math.log(gamma_init)
        self.per_head = per_head
        self.log_base = math.log(base)

    def init_parameters(self, init: Initialiser) -> None:
        for parameter, start in zip((self.beta, self.log_gamma), self.starts, strict=True):
            init.constant(parameter, start, "scalar")

    def natural(self, exponent: Tensor) -> Tensor:
        """The exponent of e that gives what this one gives of the base."""
        return exponent if self.log_base == 1 else exponent * self.log_base

    def hardware_form(self, work: Work) -> dict[str, int]:
        """Torch subtracts the constants, scales and takes an exponential; in hardware they are folded into two
        tables."""
        n = work.elements
        form = {op: k * n for op, k in self.beside.items()}
        scaled = self.log_base != 1
        return form | {"lut": -2 * n, "mul": (scaled - (2 if self.per_head else 1)) * n}

    def cost(self, work: Work) -> Cost:
        n, params = work.elements, self.own_params()
        ops = {"lut": 2 * n, "mul": (2 if self.per_head else 1) * n}
        if self.compared:
            ops["cmp"] = self.compared * n
        return Cost(params=params, weights_read={"native": params}, ops=ops, activations=2 * n, reductions=0, passes=1)
