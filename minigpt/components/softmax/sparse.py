"""What the sparse projections share: a threshold per row, below which a weight is exactly 0."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from minigpt.components.base import BuildContext
from minigpt.components.softmax.base import Softmax
from minigpt.cost import Cost, Work

HALVINGS = 16
"""Of the interval the hardware form looks for a threshold in: what is left of it is below a weight of 16 bits."""


class SparseProjection(Softmax):
    """y = max(z - t, 0)^power, z = (s - max(s)) / power, with the one t in [-1, 0) for which a row sums to one.

    Torch sorts every row to find t. In hardware it is found by halving [-1, 0] as often as a weight has bits, each time
    with a sum over the row, and that is what is counted. Gradients are those at a fixed set of keys above t.
    """

    normalised = True
    reductions = 1 + HALVINGS
    power: ClassVar[int]
    beside: ClassVar[dict[str, int]]
    beside_per_row: ClassVar[dict[str, int]]

    def __init__(self, config: Any, ctx: BuildContext):
        super().__init__()

    def threshold(self, ordered: Tensor) -> Tensor:
        """ordered: z, in each row from large to small, nothing below -1 -> t of each row."""
        raise NotImplementedError

    def forward(self, scores: Tensor) -> Tensor:
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))  # as PyTorch's own softmax does
        return _Projected.apply(scores, self.power, self.threshold)

    def hardware_form(self, work: Work) -> dict[str, int]:
        """Torch sorts; in hardware a threshold is found by halvings."""
        ops = self._operations(work)
        names = {*ops, *self.beside, *self.beside_per_row}
        torchs = {
            op: self.beside.get(op, 0) * work.elements + self.beside_per_row.get(op, 0) * work.rows for op in names
        }
        return {op: torchs[op] - ops.get(op, 0) for op in names}

    def cost(self, work: Work) -> Cost:
        n, walks = work.elements, HALVINGS + 2  # for the maximum, and for the weights
        return Cost(ops=self._operations(work), activations=2 * n, reductions=self.reductions, passes=walks)

    def _operations(self, work: Work) -> dict[str, int]:
        n, walks, decisions = work.elements, HALVINGS + 1, HALVINGS * work.rows
        ops = {"max": n, "sub": (walks + 1) * n, "cmp": walks * n + decisions, "add": HALVINGS * n + decisions}
        return ops if self.power == 1 else ops | {"mul": (self.power - 1) * walks * n}


class _Projected(torch.autograd.Function):
    @staticmethod
    def forward(ctx, scores, power, threshold):
        z = scores - scores.amax(dim=-1, keepdim=True)
        # what lies 1 below the largest has no weight, masked or not: at -1 it is out of no sum's way
        z = (z if power == 1 else z / power).clamp_min(-1)
        t = threshold(z.sort(dim=-1, descending=True).values).clamp_min(-1)
        above = (z - t).relu()
        ctx.save_for_backward(above)
        ctx.power = power
        return above if power == 1 else above**power

    @staticmethod
    def backward(ctx, gradient):
        (above,) = ctx.saved_tensors
        share = (above > 0).to(above.dtype) if ctx.power == 1 else above ** (ctx.power - 1)
        mean = (share * gradient).sum(dim=-1, keepdim=True) / share.sum(dim=-1, keepdim=True)
        return share * (gradient - mean), None, None
