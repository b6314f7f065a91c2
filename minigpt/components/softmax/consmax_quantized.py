"""Consistent softmax whose two constants are whole numbers of steps, and the two small tables it is in silicon."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from minigpt.components.base import BuildContext
from minigpt.components.softmax.consistent import Consistent
from minigpt.registry import register
from minigpt.schema import Range, options

BETA_BOUND, GAMMA_BOUND = 8.0, 256.0
"""beta is kept in [-8, 8), gamma in (0, 256)."""


@register("softmax", "consmax_quantized")
class ConSmaxQuantized(Consistent):
    """y = exp(s - q(beta)) / q(gamma): ConSmax (arXiv:2402.10930) with both constants rounded, straight through.

    q rounds to ``bits`` bits: beta to steps of 16 / 2^bits in [-8, 8), gamma to steps of 256 / 2^bits in (0, 256), at
    least one step. Gradients pass as if nothing were rounded. Learns beta and log gamma: (1,) each, or with
    ``per_head`` (H, 1, 1).

    Cost is the split form of the paper: a score of 8 bits is two halves of 4, exp(s) the product of two reads from
    tables of 16 entries each, :meth:`tables`, with the constants in one of them unless every head has its own.
    """

    @options
    class Config:
        bits: Annotated[int, Range(ge=2, le=16)] = 8
        beta_init: Annotated[float, Range(ge=-8, lt=8)] = 2.5
        gamma_init: Annotated[float, Range(gt=0, lt=256)] = 100.0
        per_head: bool = False

    cases = [{"bits": 3}, {"beta_init": 1.0, "gamma_init": 20.0, "per_head": True}]

    def __init__(self, config: Config, ctx: BuildContext):
        super().__init__(ctx, config.beta_init, config.gamma_init, config.per_head)
        self.beta_step, self.gamma_step = 2 * BETA_BOUND / 2**config.bits, GAMMA_BOUND / 2**config.bits

    def constants(self) -> tuple[Tensor, Tensor]:
        """q(beta) and q(gamma)."""
        beta = rounded(self.beta, self.beta_step, -BETA_BOUND, BETA_BOUND - self.beta_step)
        return beta, rounded(self.log_gamma.exp(), self.gamma_step, self.gamma_step, GAMMA_BOUND - self.gamma_step)

    def forward(self, scores: Tensor) -> Tensor:
        beta, gamma = self.constants()
        return torch.exp(scores - (beta + gamma.log()))

    def tables(self, step: float) -> tuple[Tensor, Tensor]:
        """Two tables of 16 for scores that are ``step`` times a signed 8-bit code: (16,) or (H, 1, 16), and (16,).

        y of a code is high[code >> 4] * low[code & 15], its upper half counted from -8 (add 8 to read the table).
        """
        beta, gamma = self.constants()
        halves = torch.arange(16, dtype=beta.dtype, device=beta.device)
        high = torch.exp(16 * step * (halves - 8) - (beta + gamma.log()))
        return high if self.per_head else high.flatten(), torch.exp(step * halves)


def rounded(x: Tensor, step: float, low: float, high: float) -> Tensor:
    """The nearest of the steps from ``low`` to ``high``; gradients pass unchanged."""
    return x + ((x / step).round() * step).clamp(low, high).sub(x).detach()
