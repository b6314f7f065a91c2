"""ReLU attention weights."""

from __future__ import annotations

from torch import Tensor

from minigpt.components.base import BuildContext
from minigpt.components.softmax.base import Softmax
from minigpt.cost import Cost, Work
from minigpt.registry import register
from minigpt.schema import PositiveFloat, options


@register("softmax", "relumax")
class ReluMax(Softmax):
    """y = relu(s) / divisor.  Wortsman et al. 2023, arXiv:2309.08586.

    divisor: None is 256, or 1 with ``length_scale``, which divides each row by the number of keys it may see, so that
    short rows are not starved. A constant divisor folds into the value projection: it costs nothing.
    """

    normalised = False
    reductions = 0

    @options
    class Config:
        divisor: PositiveFloat | None = None
        length_scale: bool = False

    cases = [{"divisor": 16.0}, {"length_scale": True}, {"length_scale": True, "divisor": 2.0}]

    def __init__(self, config: Config, ctx: BuildContext):
        super().__init__()
        self.length_scale = config.length_scale
        self.divisor = config.divisor or (1.0 if config.length_scale else 256.0)

    def forward(self, scores: Tensor) -> Tensor:
        weights = scores.relu() / self.divisor
        if self.length_scale:
            visible = scores.isneginf().logical_not().sum(dim=-1, keepdim=True)  # (B, H, Tq, 1)
            weights = weights / visible
        return weights

    def hardware_form(self, work: Work) -> dict[str, int]:
        """Torch divides by the constant, which folds into the value projection, and by the length of each row, which
        is one reciprocal."""
        return {"mul": work.elements, "recip": -work.rows if self.length_scale else 0}

    def cost(self, work: Work) -> Cost:
        n = work.elements
        ops = {"cmp": n} | ({"mul": n, "recip": work.rows} if self.length_scale else {})
        return Cost(ops=ops, activations=2 * n, reductions=0, passes=1)
