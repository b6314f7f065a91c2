"""The plain head."""

from __future__ import annotations

from torch import Tensor

from minigpt.components.call import Call
from minigpt.components.head.base import Head
from minigpt.registry import register


@register("head", "linear")
class LinearHead(Head):
    """logits = x W^T, W the embedding's table or, with ``model.tie_embeddings=false``, a matrix of its own."""

    def forward(self, x: Tensor, call: Call) -> Tensor:
        return self.score(x)
