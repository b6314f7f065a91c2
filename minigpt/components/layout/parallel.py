"""The parallel layout."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from minigpt.components.call import Call
from minigpt.components.layout.base import Layout
from minigpt.registry import register


@register("layout", "parallel")
class Parallel(Layout):
    """x = x + attention(norm_a(x)) + mlp(norm_m(x)): both read the same stream, side by side.

    Wang & Komatsuzaki 2021 (GPT-J); Black et al. 2022 (GPT-NeoX), arXiv:2204.06745, with a norm of its own for each.
    """

    def forward(self, stream: Tensor, call: Call, state: Any = None) -> Tensor:
        joined = stream
        if not self.attention.silent:
            x = self.attention_norm(self.attention_residual.read(stream))  # (B, T, d_model)
            joined = self.attention_residual.write(joined, self.dropout(self.attention(x, call, state)))
        if not self.mlp.silent:
            x = self.mlp_norm(self.mlp_residual.read(stream))
            joined = self.mlp_residual.write(joined, self.dropout(self.mlp(x, call)))
        return joined
