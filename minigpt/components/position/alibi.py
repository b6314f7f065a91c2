"""Attention with linear biases."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from minigpt.components.base import BuildContext
from minigpt.components.position.base import Position
from minigpt.cost import Cost, Work
from minigpt.registry import register
from minigpt.schema import options


@register("position", "alibi")
class Alibi(Position):
    """Add -m_h (t - s) to the score of query t and key s.  Press et al. 2021, arXiv:2108.12409.

    The slopes m_h are 2^(-8h/H), h = 1..H, for a power of two; otherwise those of the power below, then every other one
    of the power above, as in the paper's code.
    """

    kind = "bias"
    slopes: Tensor

    @options
    class Config:
        pass

    def __init__(self, config: Config, ctx: BuildContext):
        super().__init__()
        self.register_buffer("slopes", torch.empty(ctx.n_head), persistent=False)

    def init_buffers(self) -> None:
        self.slopes.copy_(torch.tensor(alibi_slopes(self.slopes.numel())))

    def bias(self, query_index: Tensor, key_index: Tensor) -> Tensor:
        distance = (query_index[:, None] - key_index).clamp_min(0)  # (T, S); the future is masked anyway
        return -self.slopes[:, None, None] * distance

    def cost(self, work: Work) -> Cost:
        """``work.elements``: scores. One multiply and one add each, and the distance."""
        return Cost(ops={"mul": work.elements, "add": work.elements}, activations=2 * work.elements, passes=1)


def alibi_slopes(n_head: int) -> list[float]:
    """One slope per head, steepest first."""
    below = 2 ** int(math.log2(n_head))
    slopes = [2 ** (-8 * (h + 1) / below) for h in range(below)]
    above = [2 ** (-8 * (h + 1) / (2 * below)) for h in range(2 * below)]
    return slopes + above[0::2][: n_head - below]
