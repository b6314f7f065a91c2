"""Ternary weights and 8-bit activations (BitNet b1.58)."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import torch
from torch import Tensor

from minigpt.components.base import BuildContext
from minigpt.components.initialiser import Role
from minigpt.components.linear.base import LinearMap
from minigpt.components.rounding import straight_through, symmetric
from minigpt.cost import Cost, Work
from minigpt.registry import register
from minigpt.schema import Range, options


@register("linear", "ternary")
class TernaryLinear(LinearMap):
    """y = q8(x) (s round(clip(W / s, -1, 1)))^T, s = mean |W|.  Ma et al. 2024, arXiv:2402.17764.

    Weights are -s, 0 or s; activations are 8-bit integers with one scale **per token** (a scale over the whole tensor
    would carry the future into the past). Rounding passes gradients straight through; the full-precision weight is what
    is trained. activation_bits: None leaves activations as they are. The norm before the map is the layout's.
    """

    weight_format = "ternary"

    @options
    class Config:
        activation_bits: Annotated[int, Range(ge=2, le=16)] | None = 8

    cases = [{"activation_bits": 4}, {"activation_bits": None}]

    def __init__(self, config: Config, ctx: BuildContext, in_features: int, out_features: int, role: Role, bias: bool):
        super().__init__(config, ctx, in_features, out_features, role, bias)
        self.activation_bits = config.activation_bits

    @property
    def one_product(self) -> bool:
        return self.activation_bits is None

    def effective_weight(self) -> Tensor:
        return straight_through(self.weight, ternary(self.weight))

    def forward(self, x: Tensor) -> Tensor:
        if self.activation_bits is not None:
            x = straight_through(x, symmetric(x.detach(), self.activation_bits))
        return super().forward(x)

    def hardware_form(self, work: Work) -> dict[str, int]:
        """For its gradient torch adds the rounding to x as a difference; it guards the row's largest, and takes the
        scale off every input instead of every output."""
        if self.activation_bits is None:
            return {}
        n_out, n_in = self.weight.shape
        per_row = {"add": 2 * n_in, "cmp": 1, "mul": n_in - n_out + 1}
        return {op: self.rows_of(work) * count for op, count in per_row.items()}

    def cost(self, work: Work) -> Cost:
        cost = super().cost(work)
        if self.activation_bits is None:
            return cost
        n_out, n_in = self.weight.shape
        rows = self.rows_of(work)
        # per element: |x|, max, x * scale, round; per row: 1 / max; per output: undo both scales
        per_row = {"abs": n_in, "max": n_in, "round": n_in, "mul": n_in + n_out, "recip": 1}
        quantising = {op: rows * count for op, count in per_row.items()}
        products = tuple(dataclasses.replace(m, left_bits=self.activation_bits) for m in cost.matmuls)
        return dataclasses.replace(cost, matmuls=products, ops={**cost.ops, **quantising}, reductions=1, passes=2)


def ternary(weight: Tensor) -> Tensor:
    """Round to -s, 0 or s with s = mean |weight|."""
    scale = weight.abs().mean().clamp_min(torch.finfo(weight.dtype).tiny)  # all zero stays zero
    return (weight / scale).round().clamp(-1, 1) * scale
