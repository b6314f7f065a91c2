"""The linear axis: every weight matrix inside a block."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

from torch import Tensor, nn

from minigpt.components.base import BuildContext, Part
from minigpt.components.deferred import product
from minigpt.components.initialiser import Initialiser, Role
from minigpt.components.rounding import straight_through, symmetric
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
        rows, fmt = self.rows_of(work), self.weight_format
        n_in, n_out = self.in_features, self.out_features
        reads = Counter({fmt: n_in * n_out})
        ops = {}
        if self.bias is not None:
            reads["native"] += n_out
            ops["add"] = rows * n_out
        if self.divides:
            ops["mul"] = rows * n_out
        return Cost(
            params=self.own_params(),
            narrow_params={} if fmt == "native" else {fmt: n_in * n_out},
            weights_read=reads,
            matmuls=(Matmul(rows, n_in, n_out, weight_format=fmt, left_bits=work.input_bits),),
            ops=ops,
            activations=rows * (n_in + n_out + self.divides),
        )

    @staticmethod
    def rows_of(work: Work) -> int:
        """Rows that go through the map: one per token unless its owner gave another number."""
        return work.all_tokens if work.given_rows is None else work.given_rows


class BitLinear(LinearMap):
    """y = Q(x) W_q^T: a weight of few levels, made by :meth:`quantised`, and activations rounded to whole numbers with
    one scale per token; a scale over the whole tensor would carry the future into the past.

    Rounding passes gradients straight through; the full-precision weight is what is trained. activation_bits: None
    leaves activations as they are.
    """

    activation_bits: int | None

    def __init__(self, config: Any, ctx: BuildContext, in_features: int, out_features: int, role: Role, bias: bool):
        super().__init__(config, ctx, in_features, out_features, role, bias)
        self.activation_bits = config.activation_bits

    @property
    def one_product(self) -> bool:
        return self.activation_bits is None

    def quantised(self, weight: Tensor) -> Tensor:
        """(out, in) -> the same shape, without a gradient: what the hardware keeps."""
        raise NotImplementedError

    def effective_weight(self) -> Tensor:
        return straight_through(self.weight, self.quantised(self.weight.detach()))

    def forward(self, x: Tensor) -> Tensor:
        if self.activation_bits is not None:
            x = straight_through(x, symmetric(x.detach(), self.activation_bits))
        return super().forward(x)

    def hardware_form(self, work: Work) -> dict[str, int]:
        """For its gradient torch adds the rounding to x as a difference; it guards the row's largest, moves what lies
        between two steps aside, and takes the scale off every input instead of every output."""
        if self.activation_bits is None:
            return {}
        n_out, n_in = self.weight.shape
        per_row = {"add": 2 * n_in, "cmp": 1, "mul": n_in - n_out + 2}
        return {op: self.rows_of(work) * count for op, count in per_row.items()}

    def cost(self, work: Work) -> Cost:
        if self.activation_bits is None:
            return super().cost(work)
        cost = super().cost(work.fed(self.activation_bits))
        n_out, n_in = self.weight.shape
        rows = self.rows_of(work)
        # per element: |x|, max, x * scale, round; per row: 1 / max; per output: undo both scales
        per_row = {"abs": n_in, "max": n_in, "round": n_in, "mul": n_in + n_out, "recip": 1}
        quantising = {op: rows * count for op, count in per_row.items()}
        return dataclasses.replace(cost, ops={**cost.ops, **quantising}, reductions=1, passes=2)
