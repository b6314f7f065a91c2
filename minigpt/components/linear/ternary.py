"""Ternary weights and 8-bit activations (BitNet b1.58)."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from minigpt.components.linear.base import BitLinear
from minigpt.registry import register
from minigpt.schema import Range, options


@register("linear", "ternary")
class TernaryLinear(BitLinear):
    """y = q8(x) (s clip(round(W / s), -1, 1))^T + b, s = mean |W|.  Ma et al. 2024, arXiv:2402.17764.

    Weights are -s, 0 or s; activations are 8-bit integers with one scale **per token** (a scale over the whole tensor
    would carry the future into the past). Rounding passes gradients straight through; it learns the full-precision
    weight W: (out, in), and b: (out,). activation_bits: None leaves activations as they are. The norm before the map is
    the layout's.
    """

    weight_format = "ternary"

    @options
    class Config:
        activation_bits: Annotated[int, Range(ge=2, le=16)] | None = 8

    cases = [{"activation_bits": 4}, {"activation_bits": None}]

    def quantised(self, weight: Tensor) -> Tensor:
        return ternary(weight)


def ternary(weight: Tensor) -> Tensor:
    """Round to -s, 0 or s with s = mean |weight|."""
    scale = weight.abs().mean().clamp_min(torch.finfo(weight.dtype).tiny)  # all zero stays zero
    return (weight / scale).round().clamp(-1, 1) * scale
