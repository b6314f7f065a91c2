"""Hard attention: the best key alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from minigpt.components.base import BuildContext
from minigpt.components.softmax.base import Softmax
from minigpt.cost import Cost, Work
from minigpt.registry import register


@register("softmax", "argmax_ste")
class ArgmaxSTE(Softmax):
    """y = 1 at the row's largest score (the first of several), 0 elsewhere; gradients are those of softmax.

    The straight-through estimator, Bengio et al. 2013, arXiv:1308.3432. In hardware a running maximum, no exponential:
    the product with the values is a read of one of them.
    """

    normalised = True
    reductions = 1

    def __init__(self, config: Any, ctx: BuildContext):
        super().__init__()

    def forward(self, scores: Tensor) -> Tensor:
        best = torch.zeros_like(scores).scatter(-1, scores.argmax(dim=-1, keepdim=True), 1.0)
        if not (torch.is_grad_enabled() and scores.requires_grad):
            return best
        soft = torch.softmax(scores, dim=-1)
        return best + (soft - soft.detach())

    def cost(self, work: Work) -> Cost:
        n = work.elements
        return Cost(ops={"max": n}, activations=2 * n, reductions=1, passes=2)
