"""1.5-entmax: half way between softmax and sparsemax."""

from __future__ import annotations

import torch
from torch import Tensor

from minigpt.components.softmax.sparse import SparseProjection
from minigpt.registry import register
from minigpt.schema import options


@register("softmax", "entmax15")
class Entmax15(SparseProjection):
    """y = max(s / 2 - t, 0)^2 with the t for which a row sums to one: softer than sparsemax, with exact zeros too.

    Peters, Niculae and Martins 2019, arXiv:1905.05702. Torch sorts a row; hardware halves an interval 16 times instead,
    which is what the cost counts.
    """

    power = 2
    beside = {"max": 2, "add": 7, "mul": 7, "cmp": 4, "sqrt": 1}
    beside_per_row = {"cmp": 1}

    @options
    class Config:
        pass

    def threshold(self, ordered: Tensor) -> Tensor:
        ranks = torch.arange(1, ordered.shape[-1] + 1, device=ordered.device)
        means = ordered.cumsum(dim=-1) / ranks
        spread = ordered.square().cumsum(dim=-1) - means.square() * ranks  # of the first 1, 2, ... keys
        thresholds = means - ((1 - spread) / ranks).clamp_min(0).sqrt()
        above = (thresholds < ordered).sum(dim=-1, keepdim=True)
        return thresholds.gather(-1, above - 1)
