"""Dynamic tanh: a norm that reduces nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minigpt.components.base import BuildContext
from minigpt.components.initialiser import Initialiser
from minigpt.components.norm.base import Norm
from minigpt.cost import Cost, Work
from minigpt.registry import register
from minigpt.schema import PositiveFloat, options

_ACTS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "hardtanh": F.hardtanh,
    "softsign": F.softsign,
    "sigmoid": torch.sigmoid,
}
_OPERATIONS = {
    "tanh": {"mul": 2, "add": 1, "tanh": 1},
    "hardtanh": {"mul": 2, "add": 1, "cmp": 2},
    "softsign": {"mul": 3, "add": 2, "abs": 1, "recip": 1},
    "sigmoid": {"mul": 2, "add": 2, "exp": 1, "recip": 1},
}
"""What one element costs: scale, act, gain and bias."""


@register("norm", "dyt")
class DynamicTanh(Norm):
    """y = g * act(alpha x) + b, act: tanh, or ``hardtanh``, ``softsign``, ``sigmoid``.  Zhu et al. 2025,
    arXiv:2503.10622.

    x: (..., width) -> (..., width). Learns alpha: (1,), g: (width,), b: (width,). No statistics of the row: every
    element is ready as soon as it arrives. Nor is a small input brought to unit scale, as a norm would: with embeddings
    drawn at the usual std of 0.02 training starts on a long plateau, which ``init.std=0.1`` takes a small model off.
    """

    reductions = 0

    @options
    class Config:
        act: Literal["tanh", "hardtanh", "softsign", "sigmoid"] = "tanh"
        alpha_init: PositiveFloat = 1.0

    cases = [{"act": "hardtanh", "alpha_init": 0.5}, {"act": "softsign"}, {"act": "sigmoid"}]

    def __init__(self, config: Config, ctx: BuildContext, width: int):
        super().__init__()
        self.alpha = nn.Parameter(torch.empty(1))
        self.gain = nn.Parameter(torch.empty(width))
        self.bias = nn.Parameter(torch.empty(width))
        self.act, self.alpha_init = config.act, config.alpha_init

    def init_parameters(self, init: Initialiser) -> None:
        init.constant(self.alpha, self.alpha_init, "scalar")
        init.constant(self.gain, 1.0, "gain")
        init.constant(self.bias, 0.0, "bias")

    def forward(self, x: Tensor) -> Tensor:
        return torch.addcmul(self.bias, self.gain, _ACTS[self.act](self.alpha * x))

    def hardware_form(self, work: Work) -> dict[str, int]:
        """Torch has a sigmoid, and both bounds of a clamp, as one operation; it divides where hardware multiplies with
        the reciprocal."""
        n = work.elements
        return {
            "tanh": {},
            "hardtanh": {"cmp": -n},
            "softsign": {"recip": -n},
            "sigmoid": {"sigmoid": n, "exp": -n, "add": -n, "recip": -n},
        }[self.act]

    def cost(self, work: Work) -> Cost:
        n, params = work.elements, self.own_params()
        ops = {op: k * n for op, k in _OPERATIONS[self.act].items()}
        return Cost(params=params, weights_read={"native": params}, ops=ops, activations=2 * n, reductions=0, passes=1)
