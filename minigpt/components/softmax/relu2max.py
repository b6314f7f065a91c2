"""Squared-ReLU attention weights."""

from __future__ import annotations

from torch import Tensor

from minigpt.components.base import BuildContext
from minigpt.components.softmax.elementwise import Elementwise, chosen_divisor
from minigpt.registry import register
from minigpt.schema import PositiveFloat, options


@register("softmax", "relu2max")
class Relu2Max(Elementwise):
    """y = relu(s)^2 / divisor.  Wortsman et al. 2023, arXiv:2309.08586 (relu^2 is among the functions it compares).

    divisor: None is 256, or 1 with ``length_scale``, which divides each row by the number of keys it may see.
    """

    operations = {"cmp": 1, "mul": 1}

    @options
    class Config:
        divisor: PositiveFloat | None = None
        length_scale: bool = False

    cases = [{"divisor": 16.0}, {"length_scale": True}]

    def __init__(self, config: Config, ctx: BuildContext):
        super().__init__(chosen_divisor(config.divisor, config.length_scale, 256.0), config.length_scale)

    def function(self, scores: Tensor) -> Tensor:
        return scores.relu().square()
