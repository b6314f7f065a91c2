"""The softmax axis: attention scores -> attention weights."""

from __future__ import annotations

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
