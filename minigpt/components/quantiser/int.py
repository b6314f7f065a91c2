"""Activations as whole numbers with one scale per token."""

from __future__ import annotations

import functools
from typing import Annotated, Literal

from torch import Tensor

from minigpt.components.base import BuildContext
from minigpt.components.quantiser.base import Quantiser
from minigpt.components.rounding import affine, straight_through, symmetric
from minigpt.cost import Cost, Work
from minigpt.registry import register
from minigpt.schema import Range, options


@register("quantiser", "int")
class IntQuantiser(Quantiser):
    """symmetric: y = s round(x / s), s = max |x| / (2^(bits-1) - 1).  affine: y = s (clip(round(x / s) + z) - z), s =
    (max - min) / (2^bits - 1), z = round(-min / s).  Jacob et al. 2018, arXiv:1712.05877; scales per token: Yao et al.
    2022, arXiv:2206.01861.

    max and min are those of the row, zero included. affine suits what is not spread around zero, such as probabilities.
    x: (..., width) -> the same shape; learns nothing, its gradient is that of y = x. What it rounds is kept in the
    working format, in a KV cache too: the cache is priced at that width.
    """

    @options
    class Config:
        bits: Annotated[int, Range(ge=2, le=16)] = 8
        scheme: Literal["symmetric", "affine"] = "symmetric"

    cases = [{"bits": 4}, {"bits": 3, "scheme": "affine"}]

    def __init__(self, config: Config, ctx: BuildContext):
        super().__init__()
        self.bits, self.affine = config.bits, config.scheme == "affine"
        self.rounded = functools.partial(affine if self.affine else symmetric, bits=config.bits)

    def forward(self, x: Tensor) -> Tensor:
        return straight_through(x, self.rounded(x.detach()))

    def hardware_form(self, work: Work) -> dict[str, int]:
        """For its gradient torch adds the rounding to x as a difference; it guards the row's range, multiplies the
        largest code with a reciprocal where a divider takes it along, and moves what lies between two steps aside."""
        return {"add": 2 * work.elements, "cmp": work.rows, "mul": 2 * work.rows}

    def cost(self, work: Work) -> Cost:
        """Per element: the range, x / s, the rounding and the way back; a reciprocal per row."""
        n, rows = work.elements, work.rows
        ops = {"abs": n, "max": n, "mul": 2 * n, "round": n, "recip": rows}
        if self.affine:  # two ends; the zero goes in and out; codes are clipped
            ops = {"max": 2 * n, "mul": 2 * n + rows, "round": n + rows, "recip": rows}
            ops |= {"add": 2 * n + rows, "cmp": n + 2 * rows, "neg": rows}
        return Cost(ops=ops, activations=2 * n, reductions=1, passes=2)
