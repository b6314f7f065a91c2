"""Attention without an MLP."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from minigpt.components.call import Call
from minigpt.components.layout.base import Layout
from minigpt.registry import register


@register("layout", "attention_only")
class AttentionOnly(Layout):
    """x = x + attention(norm(x)).  Elhage et al. 2021, transformer-circuits.pub/2021/framework.

    The norm's and the residual's site is ``attention``; a final norm follows the last block.
    """

    norms_inputs = True

    uses = frozenset({"attention", "norm", "residual"})
    sublayers = ("attention",)

    def forward(self, stream: Tensor, call: Call, state: Any = None) -> Tensor:
        if self.attention.silent:
            return stream
        x = self.attention_norm(self.attention_residual.read(stream))  # (B, T, d_model)
        return self.attention_residual.write(stream, self.dropout(self.attention(x, call, state)))
