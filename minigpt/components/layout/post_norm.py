"""The post_norm layout."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from minigpt.components.call import Call
from minigpt.components.layout.base import Layout
from minigpt.registry import register


@register("layout", "post_norm")
class PostNorm(Layout):
    """x = norm(x + attention(x)); x = norm(x + mlp(x)).  Vaswani et al. 2017, arXiv:1706.03762.

    The stream leaves every block normalised: no final norm.
    """

    final_norm = False
    norms_stream = True

    def forward(self, stream: Tensor, call: Call, state: Any = None) -> Tensor:
        if not self.attention.silent:
            update = self.dropout(self.attention(self.attention_residual.read(stream), call, state))
            stream = self.attention_norm(self.attention_residual.write(stream, update))
        if not self.mlp.silent:
            update = self.dropout(self.mlp(self.mlp_residual.read(stream), call))
            stream = self.mlp_norm(self.mlp_residual.write(stream, update))
        return stream
