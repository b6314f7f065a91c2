"""Attention with linear biases."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from minigpt.components.base import BuildContext
from minigpt.components.position.base import Place, Position
from minigpt.cost import Cost, Work
from minigpt.registry import register


@register("position", "alibi")
class Alibi(Position):
    """y_ts = s_ts - m_h (t - s), s_ts the score of query t and key s in head h.  Press et al. 2021, arXiv:2108.12409.

    The slopes m_h are 2^(-8h/H), h = 1..H, for H a power of two; otherwise those of the power below, then every other
    one of the power above, as in the paper's code. Nothing is learned.
    """

    places = frozenset({"score"})
    slopes: Tensor

    def __init__(self, config: Any, ctx: BuildContext, serves: frozenset[Place], width: int):
        super().__init__(config, ctx, serves, width)
        self.register_buffer("slopes", torch.empty(ctx.n_head), persistent=False)

    def init_buffers(self) -> None:
        self.slopes.copy_(torch.tensor(alibi_slopes(self.slopes.numel())))

    def score_bias(
        self, q: Tensor, query_position: Tensor, key_position: Tensor, scores: Tensor | None = None
    ) -> Tensor:
        distance = query_position[..., :, None] - key_position[..., None, :]  # (T, S) or (B, T, S)
        return -self.slopes[:, None, None] * distance.clamp_min(0)[..., None, :, :]  # the future is masked anyway

    def hardware_form(self, work: Work) -> dict[str, int]:
        """Torch multiplies slopes and distances once, for all sequences of a batch."""
        return {"mul": work.elements // work.batch - work.elements}

    def cost(self, work: Work) -> Cost:
        """``work.elements``: scores. One multiply and one add each, and the distance."""
        return Cost(ops={"mul": work.elements, "add": work.elements}, activations=2 * work.elements, passes=1)


def alibi_slopes(n_head: int) -> list[float]:
    """One slope per head, steepest first."""
    below = 2 ** int(math.log2(n_head))
    slopes = [2 ** (-8 * (h + 1) / below) for h in range(below)]
    above = [2 ** (-8 * (h + 1) / (2 * below)) for h in range(2 * below)]
    return slopes + above[0::2][: n_head - below]
