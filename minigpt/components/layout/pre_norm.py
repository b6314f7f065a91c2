"""The pre_norm layout."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from minigpt.components.call import Call
from minigpt.components.layout.base import Layout
from minigpt.registry import register


@register("layout", "pre_norm")
class PreNorm(Layout):
    """x = x + attention(norm(x)); x = x + mlp(norm(x)).  Xiong et al. 2020, arXiv:2002.04745.

    The stream is never normalised, so its gradient reaches every block; a final norm follows the last one.
    """

    norms_inputs = True

    def forward(self, stream: Tensor, call: Call, state: Any = None) -> Tensor:
        if not self.attention.silent:
            x = self.attention_norm(self.attention_residual.read(stream))  # (B, T, d_model)
            stream = self.attention_residual.write(stream, self.dropout(self.attention(x, call, state)))
        if not self.mlp.silent:
            x = self.mlp_norm(self.mlp_residual.read(stream))
            stream = self.mlp_residual.write(stream, self.dropout(self.mlp(x, call)))
        return stream
