"""Norms that know a sphere: its radius, given or learned, and a gain per channel behind it."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from minigpt.components.initialiser import Initialiser
from minigpt.components.norm.base import Norm


class SphereNorm(Norm):
    """config: ``radius`` (None: the square root of the width), ``learned_radius``, ``gain``.

    Learns the logarithm of the radius, so that it stays positive: (1,), and g: (width,), where they are asked for.
    """

    reductions = 1

    def __init__(self, config: Any, width: int):
        super().__init__()
        self.width, self.fixed = width, math.sqrt(width) if config.radius is None else config.radius
        self.log_radius = nn.Parameter(torch.empty(1)) if config.learned_radius else None
        self.gain = nn.Parameter(torch.empty(width)) if config.gain else None

    def init_parameters(self, init: Initialiser) -> None:
        if self.log_radius is not None:
            init.constant(self.log_radius, math.log(self.fixed), "scalar")
        if self.gain is not None:
            init.constant(self.gain, 1.0, "gain")

    def radius(self) -> float | Tensor:
        return self.fixed if self.log_radius is None else self.log_radius.exp()
