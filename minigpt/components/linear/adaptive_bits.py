"""Integer weights whose width is learned."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Annotated

import torch
from torch import Tensor, nn

from minigpt.components.base import BuildContext
from minigpt.components.call import Call
from minigpt.components.initialiser import Initialiser, Role
from minigpt.components.linear.base import LinearMap
from minigpt.components.rounding import to_steps
from minigpt.cost import Cost, Work
from minigpt.registry import register
from minigpt.schema import NonNegativeFloat, Range, options

LEAST, MOST = 2, 8
UNIT = 8.0


@register("linear", "adaptive_bits")
class AdaptiveBitsLinear(LinearMap):
    """y = x Q_n(W)^T + b, n = round(beta), Q_n(w) = s round(w / s), s = max |w| / (2^(n-1) - 1) of an output channel.

    beta, the width of the map, is learned between 2 and 8 bits. As in Yang & Jin 2020, arXiv:2007.02017, its gradient
    is that of the weight in between: dW / dbeta = Q_(m+1)(W) - Q_m(W), m = floor(beta), so the loss says what a bit
    more would bring; forward the weight is of whole bits, the same in training and evaluation. Against it stands a
    price: ``price`` per bit of every map is added to the loss, as the auxiliary loss "bits" (Nikolic et al. 2020,
    arXiv:2002.03090). Rounding passes the gradient of W straight through.

    Learns W (out, in), b, and beta / 8: (1,), so that a usual rate moves it by bits within hundreds of steps; beta is
    kept within its bounds after every update. The cost is that of the width it has; of a model without memory, which
    has no values, that of ``initial``.
    """

    @options
    class Config:
        initial: Annotated[float, Range(ge=2, le=8)] = 6.0
        price: NonNegativeFloat = 1e-3

    cases = [{"initial": 3.0, "price": 0.5}]

    def __init__(self, config: Config, ctx: BuildContext, in_features: int, out_features: int, role: Role, bias: bool):
        super().__init__(config, ctx, in_features, out_features, role, bias)
        self.initial, self.price = config.initial, config.price
        self.width = nn.Parameter(torch.empty(1))

    def init_parameters(self, init: Initialiser) -> None:
        super().init_parameters(init)
        init.constant(self.width, self.initial / UNIT, "scalar")

    def updated(self) -> None:
        with torch.no_grad():
            self.width.clamp_(LEAST / UNIT, MOST / UNIT)

    def penalise(self, call: Call) -> None:
        call.record("bits", loss=self.price * self.bits().sum())

    def bits(self) -> Tensor:
        """(1,): beta."""
        return (self.width * UNIT).clamp(LEAST, MOST)

    def effective_weight(self) -> Tensor:
        beta, weight = self.bits(), self.weight.detach()
        below = beta.detach().floor().clamp(max=MOST - 1)
        lower, upper = (to_steps(weight, torch.exp2(bits - 1) - 1) for bits in (below, below + 1))
        rounded = torch.where(beta.detach().round() > below, upper, lower)
        through_bits = (beta - beta.detach()) * (upper - lower)
        return self.weight + (rounded - weight) + through_bits

    def cost(self, work: Work) -> Cost:
        """That of its weights, and its width: what is packed is unpacked by it."""
        cost = super().cost(work)
        return dataclasses.replace(cost, weights_read=Counter(cost.weights_read) + Counter(native=1))

    @property
    def weight_format(self) -> str:  # type: ignore[override]
        bits = self.initial if self.width.is_meta else self.bits().item()
        return f"int{round(bits)}/g{self.in_features}"
