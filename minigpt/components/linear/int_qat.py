"""Integer weights, trained through their rounding."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from torch import Tensor

from minigpt.components.base import BuildContext
from minigpt.components.initialiser import Role
from minigpt.components.linear.base import LinearMap
from minigpt.components.rounding import affine, straight_through, symmetric
from minigpt.errors import UserError
from minigpt.registry import register
from minigpt.schema import NonNegativeInt, PositiveInt, Range, options


@register("linear", "int_qat")
class IntQATLinear(LinearMap):
    """y = x Q(W)^T + b.  symmetric: Q(w) = s round(w / s), s = max |w| / (2^(bits-1) - 1).  affine: Q(w) = s (clip(
    round(w / s) + z) - z), s = (max - min) / (2^bits - 1), z = round(-min / s).  Jacob et al. 2018, arXiv:1712.05877.

    max and min, zero included, are those of the weights that share a scale: of the whole matrix, of an output channel,
    or of ``group_size`` neighbouring inputs of one. Rounding passes gradients straight through (Bengio et al. 2013,
    arXiv:1308.3432); the full-precision weight is what is trained. Learns W (out, in) and b.

    warmup: over so many updates of a training, its weight goes from W to Q(W) in a straight line; evaluation multiplies
    with Q(W) all the while, and that is what is priced. The updates are counted in a buffer that is saved along.
    """

    updates: Tensor

    @options
    class Config:
        bits: Annotated[int, Range(ge=2, le=8)] = 8
        scheme: Literal["symmetric", "affine"] = "symmetric"
        granularity: Literal["tensor", "channel", "group"] = "channel"
        group_size: PositiveInt | None = None
        warmup: NonNegativeInt = 0

    cases = [
        {"bits": 4, "granularity": "tensor"},
        {"bits": 3, "scheme": "affine", "granularity": "group", "group_size": 8},
        {"warmup": 10},
    ]

    def __init__(self, config: Config, ctx: BuildContext, in_features: int, out_features: int, role: Role, bias: bool):
        super().__init__(config, ctx, in_features, out_features, role, bias)
        self.bits, self.affine, self.warmup = config.bits, config.scheme == "affine", config.warmup
        self.sharing = {
            "tensor": in_features * out_features,
            "channel": in_features,
            "group": _group(config, in_features),
        }[config.granularity]
        shared = "" if config.granularity == "tensor" else f"/g{self.sharing}"
        self.weight_format = f"int{self.bits}{shared}{'/affine' if self.affine else ''}"
        if self.warmup:
            self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    def init_buffers(self) -> None:
        if self.warmup:
            self.updates.zero_()

    def updated(self) -> None:
        if self.warmup:
            self.updates += 1

    def effective_weight(self) -> Tensor:
        weight = self.weight.detach()
        rounded = (affine if self.affine else symmetric)(weight.reshape(-1, self.sharing), self.bits).view_as(weight)
        if self.warmup and self.training:
            share = self.updates.div(self.warmup).clamp(max=1).to(weight.dtype)
            rounded = torch.lerp(weight, rounded, share)
        return straight_through(self.weight, rounded)


def _group(config: IntQATLinear.Config, in_features: int) -> int:
    """Weights of one scale; refuses a size without groups, groups without a size, and a size that leaves a rest."""
    size = config.group_size
    if config.granularity != "group":
        if size is not None:
            raise UserError(
                f"linear.group_size: {size} does nothing with granularity={config.granularity}. Set "
                f"linear.granularity=group too"
            )
        return 0
    if size is None:
        raise UserError("linear.granularity: group needs a size. Set linear.group_size, such as 32, too")
    if in_features % size:
        raise UserError(
            f"linear.group_size: {size} does not divide the {in_features} inputs of a map. Take a divisor of all, such "
            f"as 8, another size for this place (sites.linear.<site>.group_size), or granularity=channel"
        )
    return size
