"""The parallel layout."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from minigpt.components.base import Span
from minigpt.components.layout.base import Layout
from minigpt.registry import register
from minigpt.schema import options


@register("layout", "parallel")
class Parallel(Layout):
    """x = x + attention(norm_a(x)) + mlp(norm_m(x)): both read the same stream, side by side.

    Wang & Komatsuzaki 2021 (GPT-J); Black et al. 2022 (GPT-NeoX), arXiv:2204.06745, with a norm of its own for each.
    """

    @options
    class Config:
        pass

    def forward(self, x: Tensor, span: Span, state: Any = None) -> Tensor:
        attended = self.dropout(self.attention(self.attention_norm(x), span, state))
        joined = self.attention_residual(x, attended)
        if self.mlp_norm is None or self.mlp_residual is None:
            return joined
        return self.mlp_residual(joined, self.dropout(self.mlp(self.mlp_norm(x))))
