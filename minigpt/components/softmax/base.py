"""The softmax axis: attention scores -> attention weights."""

from __future__ import annotations

import torch
from torch import Tensor

from minigpt.components.base import Part
from minigpt.registry import declare

declare("softmax", default="softmax", scope="block")


class Softmax(Part):
    """Built as ``cls(config, ctx)``.

    scores: (B, H, Tq, Tk), -inf where masked -> weights of the same shape, exactly 0 where masked, and no gradient
    there. fused: whether PyTorch's scaled_dot_product_attention computes this function, so that attention may use it.
    normalised: whether rows sum to one. reductions: what a row has to wait for before its first weight. The class
    speaks of its defaults; an instance says what its options make of it.
    """

    fused: bool = False
    normalised: bool
    reductions: int

    def forward(self, scores: Tensor) -> Tensor:
        raise NotImplementedError

    def sink(self) -> Tensor | None:
        """The score of one more key, of value zero, beside which the fused kernel computes this function: (1,) or
        (H, 1, 1). None: there is no such key."""
        return None


def softmax_beside(scores: Tensor, sink: Tensor) -> Tensor:
    """Softmax of each row and one more score, without that one's weight. sink: (1,) or (H, 1, 1)."""
    column = sink.to(scores.dtype).expand(*scores.shape[:-1], 1)
    return torch.softmax(torch.cat([scores, column], dim=-1), dim=-1)[..., :-1]
