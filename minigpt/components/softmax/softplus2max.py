"""Squared-softplus attention weights."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from minigpt.components.base import BuildContext
from minigpt.components.softmax.elementwise import Elementwise
from minigpt.registry import register
from minigpt.schema import PositiveFloat, options


@register("softmax", "softplus2max")
class Softplus2Max(Elementwise):
    """y = softplus(s)^2 / divisor, softplus(s) = log(1 + exp(s)): the smooth sister of relu2max.

    No paper; its first power is in use in ReaLLM-Forge, a fork of nanoGPT. A constant divisor folds into the value
    projection: it costs nothing.
    """

    operations = {"exp": 1, "add": 1, "log": 1, "mul": 1}
    beside = {"cmp": 1, "select": 1, "add": -1}  # torch takes s itself where it is large, and log(1 + x) as one

    @options
    class Config:
        divisor: PositiveFloat = 256.0

    cases = [{"divisor": 4.0}]

    def __init__(self, config: Config, ctx: BuildContext):
        super().__init__(config.divisor)

    def function(self, scores: Tensor) -> Tensor:
        return F.softplus(scores).square()
