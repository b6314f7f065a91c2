"""The post_norm layout."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from minigpt.components.base import Span
from minigpt.components.layout.base import Layout
from minigpt.registry import register
from minigpt.schema import options


@register("layout", "post_norm")
class PostNorm(Layout):
    """x = norm(x + attention(x)); x = norm(x + mlp(x)).  Vaswani et al. 2017, arXiv:1706.03762.

    The stream leaves every block normalised: no final norm.
    """

    final_norm = False

    @options
    class Config:
        pass

    def forward(self, x: Tensor, span: Span, state: Any = None) -> Tensor:
        x = self.attention_norm(self.attention_residual(x, self.dropout(self.attention(x, span, state))))
        if self.mlp_norm is None or self.mlp_residual is None:
            return x
        return self.mlp_norm(self.mlp_residual(x, self.dropout(self.mlp(x))))
