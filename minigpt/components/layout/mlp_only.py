"""An MLP without attention."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from minigpt.components.call import Call
from minigpt.components.layout.base import Layout
from minigpt.registry import register


@register("layout", "mlp_only")
class MLPOnly(Layout):
    """x = x + mlp(norm(x)): no token sees another. In a pattern, a layer that only thinks; alone, a bigram model.

    The norm's and the residual's site is ``mlp``; a final norm follows the last block. The wiring of pre_norm, Xiong et
    al. 2020, arXiv:2002.04745.
    """

    norms_inputs = True

    uses = frozenset({"mlp", "norm", "residual"})
    sublayers = ("mlp",)

    def new_state(self, batch: int, capacity: int, device: torch.device, dtype: torch.dtype) -> None:
        return None

    def forward(self, stream: Tensor, call: Call, state: Any = None) -> Tensor:
        if self.mlp.silent:
            return stream
        x = self.mlp_norm(self.mlp_residual.read(stream))  # (B, T, d_model)
        return self.mlp_residual.write(stream, self.dropout(self.mlp(x, call)))
