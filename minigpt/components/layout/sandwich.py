"""The sandwich layout."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from minigpt.components.base import BuildContext
from minigpt.components.call import Call
from minigpt.components.layout.base import Layout
from minigpt.registry import register


@register("layout", "sandwich", aliases=["peri_norm"])
class Sandwich(Layout):
    """x = x + norm(attention(norm(x))); x = x + norm(mlp(norm(x))).  Ding et al. 2021 (CogView), arXiv:2105.13290;
    Gemma 2, arXiv:2408.00118; as Peri-LN Kim et al. 2025, arXiv:2502.02732, therefore ``peri_norm`` too. The norm of
    the embedding that Peri-LN adds is ``sites.norm.embedding``.

    What a sub-layer adds to the stream is of a size that is learned, however large its own output. The second norm's
    site is ``attention_out`` or ``mlp_out``.
    """

    norms_inputs = True

    def __init__(self, config: Any, ctx: BuildContext):
        super().__init__(config, ctx)
        self.attention_out_norm = None if self.attention.silent else ctx.norm(site="attention_out")
        self.mlp_out_norm = None if self.mlp.silent else ctx.norm(site="mlp_out")

    def forward(self, stream: Tensor, call: Call, state: Any = None) -> Tensor:
        if self.attention_out_norm is not None:
            x = self.attention_norm(self.attention_residual.read(stream))  # (B, T, d_model)
            update = self.attention_out_norm(self.attention(x, call, state))
            stream = self.attention_residual.write(stream, self.dropout(update))
        if self.mlp_out_norm is not None:
            x = self.mlp_norm(self.mlp_residual.read(stream))
            stream = self.mlp_residual.write(stream, self.dropout(self.mlp_out_norm(self.mlp(x, call))))
        return stream
