"""ReLU attention weights."""

from __future__ import annotations

from torch import Tensor

from minigpt.components.base import BuildContext
from minigpt.components.softmax.elementwise import Elementwise, chosen_divisor
from minigpt.registry import register
from minigpt.schema import PositiveFloat, options


@register("softmax", "relumax")
class ReluMax(Elementwise):
    """y = relu(s) / divisor.  Wortsman et al. 2023, arXiv:2309.08586.

    divisor: None is 256, or 1 with ``length_scale``, which divides each row by the number of keys it may see, so that
    short rows are not starved. A constant divisor folds into the value projection: it costs nothing.
    """

    operations = {"cmp": 1}

    @options
    class Config:
        divisor: PositiveFloat | None = None
        length_scale: bool = False

    cases = [{"divisor": 16.0}, {"length_scale": True}, {"length_scale": True, "divisor": 2.0}]

    def __init__(self, config: Config, ctx: BuildContext):
        super().__init__(chosen_divisor(config.divisor, config.length_scale, 256.0), config.length_scale)

    def function(self, scores: Tensor) -> Tensor:
        return scores.relu()
