"""The linear axis: every weight matrix inside a block."""

from __future__ import annotations

from collections import Counter
from typing import Any

from torch import Tensor, nn

from minigpt.components.base import BuildContext, Part
from minigpt.components.deferred import product
from minigpt.components.initialiser import Initialiser, Role
from minigpt.cost import Cost, Matmul, Work
from minigpt.registry import declare

declare("linear", default="linear", scope="block")


class LinearMap(Part, nn.Linear):
    """y = x W^T + b with a weight that a subclass may transform first. Built as ``cls(config, ctx, in, out, role,
    bias)``.

    x: (..., in_features) -> (..., out_features). Learns weight: (out, in) and, where asked for, bias: (out,).
    It is a ``torch.nn.Linear``, so that what rewrites those (parallel plans, quantisers, adapters) finds it.
    weight_format: the format in which the hardware holds the weight, see :class:`minigpt.cost.Matmul`. divides: whether
    the norm before it leaves its division to this map; set when the model is built.
    """

    weight_format = "native"
    divides: bool = False

    def __init__(self, config: Any, ctx: BuildContext, in_features: int, out_features: int, role: Role, bias: bool):
        nn.Linear.__init__(self, in_features, out_features, bias=bias)
        self.role = role

    def reset_parameters(self) -> None:
        """Nothing: first values come from :meth:`init_parameters`."""

    def init_parameters(self, init: Initialiser) -> None:
        init.matrix(self.weight, self.role, fan_in=self.in_features, fan_out=self.out_features)
        if self.bias is not None:
            init.constant(self.bias, 0.0, "bias")

    @property
    def one_product(self) -> bool:
        """Whether it is x effective_weight()^T + b and leaves x as it comes: it may be absorbed into another map."""
        return type(self).forward is LinearMap.forward

    def effective_weight(self) -> Tensor:
        """(out, in): the weight of the product, differentiable; what absorbs this map into another asks it."""
        return self.weight

    def forward(self, x: Tensor) -> Tensor:
        return product(x, self.effective_weight(), self.bias)

    def cost(self, work: Work) -> Cost:
        """One product of the rows that ``work`` was given, or of every token."""
        rows = self.rows_of(work)
        n_in, n_out = self.in_features, self.out_features
        reads = Counter({self.weight_format: n_in * n_out})
        ops = {}
        if self.bias is not None:
            reads["native"] += n_out
            ops["add"] = rows * n_out
        if self.divides:
            ops["mul"] = rows * n_out
        return Cost(
            params=self.own_params(),
            narrow_params={} if self.weight_format == "native" else {self.weight_format: n_in * n_out},
            weights_read=reads,
            matmuls=(Matmul(rows, n_in, n_out, weight_format=self.weight_format, left_bits=work.input_bits),),
            ops=ops,
            activations=rows * (n_in + n_out + self.divides),
        )

    @staticmethod
    def rows_of(work: Work) -> int:
        """Rows that go through the map: one per token unless its owner gave another number."""
        return work.all_tokens if work.given_rows is None else work.given_rows
