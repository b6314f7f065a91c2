"""Orthogonal matrices."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from minigpt.components.init.base import InitPolicy
from minigpt.components.initialiser import Slot
from minigpt.registry import register
from minigpt.schema import PositiveFloat, options


@register("init", "orthogonal")
class OrthogonalInit(InitPolicy):
    """W = gain Q, Q a matrix whose rows, or columns where those are fewer, are orthonormal; tables are normal with
    ``embedding_std``.  Saxe et al. 2013, arXiv:1312.6120.

    Every singular value is gain: a vector keeps its length through a square matrix of gain 1. Of several matrices in
    one tensor, as of experts, each is orthogonal.
    """

    @options
    class Config:
        gain: PositiveFloat = 1.0
        embedding_std: PositiveFloat = 0.02

    cases = [{"gain": 0.5}, {"embedding_std": 0.1}]
    changes = {"gain": "start", "embedding_std": "start"}

    def __init__(self, config: Config):
        self.config = config

    def std(self, slot: Slot) -> float:
        if slot.role in ("embedding", "position"):
            return self.config.embedding_std
        return self.config.gain / math.sqrt(max(slot.fan_in, slot.fan_out))

    def fill(self, values: Tensor, slot: Slot, generator: torch.Generator) -> None:
        if slot.role in ("embedding", "position") or values.ndim < 2:
            super().fill(values, slot, generator)
            return
        matrices = values.flatten(1)[None] if slot.role == "conv" else values.reshape(-1, *values.shape[-2:])
        for matrix in matrices:
            nn.init.orthogonal_(matrix, self.config.gain, generator=generator)
