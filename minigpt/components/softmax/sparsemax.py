"""Sparsemax: the nearest point of the simplex."""

from __future__ import annotations

import torch
from torch import Tensor

from minigpt.components.softmax.sparse import SparseProjection
from minigpt.registry import register
from minigpt.schema import options


@register("softmax", "sparsemax")
class Sparsemax(SparseProjection):
    """y = max(s - t, 0) with the t for which a row sums to one: the nearest point of the simplex, with exact zeros.

    Martins and Astudillo 2016, arXiv:1602.02068. Torch sorts a row; hardware halves an interval 16 times instead, which
    is what the cost counts.
    """

    power = 1
    beside = {"max": 2, "add": 4, "mul": 1, "cmp": 3}
    beside_per_row = {"add": 1, "mul": 1, "cmp": 1}

    @options
    class Config:
        pass

    def threshold(self, ordered: Tensor) -> Tensor:
        ranks = torch.arange(1, ordered.shape[-1] + 1, device=ordered.device)
        sums = ordered.cumsum(dim=-1)
        above = (ranks * ordered + 1 > sums).sum(dim=-1, keepdim=True)  # how many keys get a weight
        return (sums.gather(-1, above - 1) - 1) / above
