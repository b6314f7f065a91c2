"""Layer normalisation of each head alone."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minigpt.components.base import BuildContext
from minigpt.components.initialiser import Initialiser
from minigpt.components.norm.base import Norm
from minigpt.cost import Cost, Work
from minigpt.errors import UserError
from minigpt.registry import register
from minigpt.schema import PositiveFloat, PositiveInt, options


@register("norm", "groupnorm")
class GroupNorm(Norm):
    """y = g * (x - mean_h) / sqrt(var_h + eps) + b, mean and variance over each group of channels of a token.

    Wu & He 2018, arXiv:1803.08494; one group per head: Sun et al. 2023 (RetNet), arXiv:2307.08621.
    x: (..., width) -> (..., width). groups: None is one per head, width / head_dim. Learns g: (width,) unless ``gain``
    is false and, with ``bias``, b: (width,); bias: None follows model.bias. Statistics are a token's own.
    """

    reductions = 2

    @options
    class Config:
        groups: PositiveInt | None = None
        eps: PositiveFloat = 1e-5
        gain: bool = True
        bias: bool | None = None

    cases = [{"groups": 2, "eps": 0.1}, {"bias": False}, {"gain": False}, {"bias": True, "with": {"bias": False}}]

    def __init__(self, config: Config, ctx: BuildContext, width: int):
        super().__init__()
        self.groups = max(1, width // ctx.head_dim) if config.groups is None else config.groups
        if width % self.groups or width == self.groups:
            of = "heads" if config.groups is None else "norm.groups"
            raise UserError(
                f"norm.groups: {width} channels do not split into {self.groups} {of} of two or more. "
                f"Set norm.groups to a divisor of {width}, or norm=layernorm"
            )
        self.gain = nn.Parameter(torch.empty(width)) if config.gain else None
        bias = ctx.bias if config.bias is None else config.bias
        self.bias = nn.Parameter(torch.empty(width)) if bias else None
        self.eps, self.size = config.eps, width // self.groups

    def init_parameters(self, init: Initialiser) -> None:
        if self.gain is not None:
            init.constant(self.gain, 1.0, "gain")
        if self.bias is not None:
            init.constant(self.bias, 0.0, "bias")

    def forward(self, x: Tensor) -> Tensor:
        y = F.layer_norm(x.unflatten(-1, (self.groups, self.size)), (self.size,), eps=self.eps).flatten(-2)
        if self.gain is not None and self.bias is not None:
            return torch.addcmul(self.bias, self.gain, y)
        y = y if self.gain is None else self.gain * y
        return y if self.bias is None else y + self.bias

    def hardware_form(self, work: Work) -> dict[str, int]:
        """Torch centres x twice, for the variance and for the result; mean and variance are scaled, and eps is added,
        once per group."""
        rows = work.rows * self.groups
        return {"add": work.elements + rows, "mul": 2 * rows}

    def cost(self, work: Work) -> Cost:
        n, params = work.elements, self.own_params()
        adds, muls = 3 + (self.bias is not None), 2 + (self.gain is not None)
        ops = {"add": adds * n, "mul": muls * n, "rsqrt": work.rows * self.groups}
        return Cost(params=params, weights_read={"native": params}, ops=ops, activations=2 * n, reductions=2, passes=2)
