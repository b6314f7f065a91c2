"""What softmaxes without a sum share: a function of each score alone, over a divisor."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from minigpt.components.softmax.base import Softmax
from minigpt.cost import Cost, Work


class Elementwise(Softmax):
    """y = f(s) / divisor.  A subclass has :meth:`function`, f, which is 0 at -inf, and so is its gradient.

    A constant divisor folds into the value projection: it costs nothing. length_scale: divide each row by the number of
    keys it may see, too, so that short rows are not starved.

    operations: what f of one element costs. beside: what torch does otherwise for it, see ``hardware_form``.
    """

    normalised = False
    reductions = 0
    operations: Mapping[str, int]
    beside: Mapping[str, int] = {}

    def __init__(self, divisor: float, length_scale: bool = False):
        super().__init__()
        self.divisor, self.length_scale = divisor, length_scale

    def function(self, scores: Tensor) -> Tensor:
        """f, element by element."""
        raise NotImplementedError

    def forward(self, scores: Tensor) -> Tensor:
        weights = self.function(scores) / self.divisor
        if self.length_scale:
            visible = scores.isneginf().logical_not().sum(dim=-1, keepdim=True)  # (B, H, Tq, 1)
            weights = weights / visible.clamp_min(1)
        return weights

    def hardware_form(self, work: Work) -> dict[str, int]:
        """Torch divides by the constant, which folds into the value projection, and by the length of each row, which
        is one reciprocal; what a subclass states in ``beside`` comes on top."""
        n = work.elements
        form = {op: k * n for op, k in self.beside.items()}
        return form | {
            "mul": form.get("mul", 0) + n,
            "recip": form.get("recip", 0) - (work.rows if self.length_scale else 0),
        }

    def cost(self, work: Work) -> Cost:
        n, params = work.elements, self.own_params()
        ops = {op: k * n for op, k in self.operations.items() if k}
        if self.length_scale:
            ops |= {"mul": ops.get("mul", 0) + n, "recip": ops.get("recip", 0) + work.rows}
        weights = {"native": params} if params else {}
        return Cost(params=params, weights_read=weights, ops=ops, activations=2 * n, reductions=0, passes=1)


def chosen_divisor(divisor: float | None, length_scale: bool, usual: float) -> float:
    """None is the usual one, or 1 where rows are divided by their lengths."""
    return divisor or (1.0 if length_scale else usual)


def power_operations(power: float) -> dict[str, int]:
    """x^power of one element: squarings and products for a whole number, otherwise by way of the logarithm."""
    if power != int(power):
        return {"log": 1, "mul": 1, "exp": 1}
    bits = bin(int(power))[2:]
    return {"mul": len(bits) - 1 + bits.count("1") - 1}


def beside_power(power: float) -> dict[str, int]:
    """What torch does otherwise for x^power: a census counts its one operation as a product."""
    return {op: (op == "mul") - k for op, k in power_operations(power).items()}


def without_masked(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Scores with 0 in place of -inf, and where that is: for functions that make NaN of -inf."""
    masked = scores.isneginf()
    return scores.masked_fill(masked, 0.0), masked
