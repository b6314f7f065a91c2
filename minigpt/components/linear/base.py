"""The linear axis: every weight matrix inside a block."""

from __future__ import annotations

from collections import Counter

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minigpt.components.base import BuildContext, Initialiser, Part, Role
from minigpt.cost import Cost, Matmul, Work


class LinearMap(Part):
    """y = x W^T + b with a weight that a subclass may transform first. Built as ``cls(config, ctx, in, out, role)``.

    x: (..., in_features) -> (..., out_features). Learns weight: (out, in) and, with model.bias, bias: (out,).
    weight_format: the format in which the hardware holds the weight, see :class:`minigpt.cost.Matmul`.
    """

    weight_format = "native"

    def __init__(self, config: object, ctx: BuildContext, in_features: int, out_features: int, role: Role):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.bias = nn.Parameter(torch.empty(out_features)) if ctx.bias else None
        self.role = role

    def init_parameters(self, init: Initialiser) -> None:
        init.matrix(self.weight, self.role, fan_in=self.weight.shape[1])
        if self.bias is not None:
            init.constant(self.bias, 0.0, "bias")

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)

    def cost(self, work: Work) -> Cost:
        """One product of the rows that ``work`` was given, or of every token."""
        rows = self.rows_of(work)
        n_out, n_in = self.weight.shape
        reads = Counter({self.weight_format: n_in * n_out})
        ops = {}
        if self.bias is not None:
            reads["native"] += n_out
            ops["add"] = rows * n_out
        return Cost(
            params=self.own_params(),
            narrow_params={} if self.weight_format == "native" else {self.weight_format: n_in * n_out},
            weights_read=reads,
            matmuls=(Matmul(rows, n_in, n_out, weight_format=self.weight_format),),
            ops=ops,
            activations=rows * (n_in + n_out),
        )

    @staticmethod
    def rows_of(work: Work) -> int:
        """Rows that go through the map: one per token unless its owner gave another number."""
        return work.all_tokens if work.given_rows is None else work.given_rows
