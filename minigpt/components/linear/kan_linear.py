"""A linear map with a learned function on every edge."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minigpt.components.base import BuildContext
from minigpt.components.initialiser import Initialiser, Role
from minigpt.components.linear.base import LinearMap
from minigpt.cost import Cost, Matmul, Work
from minigpt.errors import UserError
from minigpt.registry import register
from minigpt.schema import Range, options


@register("linear", "kan_linear")
class KANLinear(LinearMap):
    """y_o = sum_i phi_oi(x_i) + b_o, phi_oi(x) = W_oi silu(x) + sum_k C_oki P_k(tanh x), k = 1 to degree.

    Kolmogorov-Arnold networks: Liu et al. 2024, arXiv:2404.19756, with Legendre polynomials P_k in place of splines.
    tanh brings each number into their interval by itself: a smallest and largest value over the tokens of a batch would
    carry the future into the past. Learns W: (out, in), C as coefficients: (out, degree in), and b: (out,). It is no
    linear function of x, so nothing can absorb it.
    """

    @options
    class Config:
        degree: Annotated[int, Range(ge=1, le=64)] = 3

    cases = [{"degree": 1}, {"degree": 5}]

    def __init__(self, config: Config, ctx: BuildContext, in_features: int, out_features: int, role: Role, bias: bool):
        super().__init__(config, ctx, in_features, out_features, role, bias)
        self.degree = config.degree
        self.coefficients = nn.Parameter(torch.empty(out_features, self.degree * in_features))

    def init_parameters(self, init: Initialiser) -> None:
        super().init_parameters(init)
        init.matrix(self.coefficients, self.role, fan_in=self.degree * self.in_features, fan_out=self.out_features)

    def effective_weight(self) -> Tensor:
        raise UserError("linear=kan_linear: its functions are no weight. Choose another linear map for this place")

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(F.silu(x), self.weight, self.bias) + F.linear(self.polynomials(x.tanh()), self.coefficients)

    def polynomials(self, t: Tensor) -> Tensor:
        """(..., in) -> (..., degree in): P_1 .. P_degree by k P_k = (2k - 1) t P_(k-1) - (k - 1) P_(k-2)."""
        found = [torch.ones_like(t), t]
        for k in range(2, self.degree + 1):
            found.append((2 * k - 1) / k * (t * found[-1]) - (k - 1) / k * found[-2])
        return torch.cat(found[1:], dim=-1)

    def hardware_form(self, work: Work) -> dict[str, int]:
        """Torch has the sigmoid of silu as one operation."""
        n = self.rows_of(work) * self.in_features
        return {"sigmoid": n, "exp": -n, "add": -n, "recip": -n}

    def cost(self, work: Work) -> Cost:
        rows, n_in, n_out = self.rows_of(work), self.in_features, self.out_features
        n, steps = rows * n_in, self.degree - 1
        cost = super().cost(work.fed(None))  # what it multiplies is not what came in
        ops = {"exp": n, "recip": n, "tanh": n, "mul": n + 3 * n * steps}
        ops["add"] = n + n * steps + rows * n_out + cost.ops.get("add", 0)
        reads = dict(cost.weights_read)
        reads["native"] += self.coefficients.numel()
        products = (*cost.matmuls, Matmul(rows, self.degree * n_in, n_out))
        return dataclasses.replace(cost, weights_read=reads, matmuls=products, ops=ops)
