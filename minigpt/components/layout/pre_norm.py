"""The pre_norm layout."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from minigpt.components.base import Span
from minigpt.components.layout.base import Layout
from minigpt.registry import register
from minigpt.schema import options


@register("layout", "pre_norm")
class PreNorm(Layout):
    """x = x + attention(norm(x)); x = x + mlp(norm(x)).  Xiong et al. 2020, arXiv:2002.04745.

    The stream is never normalised, so its gradient reaches every block; a final norm follows the last one.
    """

    @options
    class Config:
        pass

    def forward(self, x: Tensor, span: Span, state: Any = None) -> Tensor:
        x = self.attention_residual(x, self.dropout(self.attention(self.attention_norm(x), span, state)))
        if self.mlp_norm is None or self.mlp_residual is None:
            return x
        return self.mlp_residual(x, self.dropout(self.mlp(self.mlp_norm(x))))
