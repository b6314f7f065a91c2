"""Binary weights and 8-bit activations (BitNet)."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from minigpt.components.linear.base import BitLinear
from minigpt.registry import register
from minigpt.schema import Range, options


@register("linear", "binary")
class BinaryLinear(BitLinear):
    """y = q8(x) (s sign(W - mean W))^T + b, s = mean |W|, sign(0) = -1.  Wang et al. 2023, arXiv:2310.11453.

    Weights are -s or s; activations are 8-bit integers with one scale **per token**, where the paper's training has one
    for all tokens, which would carry the future into the past. Rounding passes gradients straight through; it learns
    the full-precision weight W: (out, in), and b: (out,). activation_bits: None leaves activations as they are. The
    norm before the map is the layout's.
    """

    weight_format = "binary"

    @options
    class Config:
        activation_bits: Annotated[int, Range(ge=2, le=16)] | None = 8

    cases = [{"activation_bits": 4}, {"activation_bits": None}]

    def quantised(self, weight: Tensor) -> Tensor:
        scale = weight.abs().mean()
        return torch.where(weight > weight.mean(), scale, -scale)
