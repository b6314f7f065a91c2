"""The residual-post-norm layout."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from minigpt.components.call import Call
from minigpt.components.layout.base import Layout
from minigpt.registry import register


@register("layout", "res_post_norm")
class ResPostNorm(Layout):
    """x = x + norm(attention(x)); x = x + norm(mlp(x)).  Liu et al. 2022 (Swin V2), arXiv:2111.09883; OLMo 2,
    arXiv:2501.00656.

    Sub-layers read the stream as it is, and what they add to it is normalised; a final norm follows the last block.
    """

    def forward(self, stream: Tensor, call: Call, state: Any = None) -> Tensor:
        if not self.attention.silent:
            update = self.attention_norm(self.attention(self.attention_residual.read(stream), call, state))
            stream = self.attention_residual.write(stream, self.dropout(update))
        if not self.mlp.silent:
            update = self.mlp_norm(self.mlp(self.mlp_residual.read(stream), call))
            stream = self.mlp_residual.write(stream, self.dropout(update))
        return stream
