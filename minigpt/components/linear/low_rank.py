"""A matrix as the product of two narrow ones."""

from __future__ import annotations

import dataclasses
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minigpt.components.base import BuildContext
from minigpt.components.initialiser import Initialiser, Role
from minigpt.components.linear.base import LinearMap
from minigpt.cost import Cost, Matmul, Work
from minigpt.errors import UserError
from minigpt.registry import register
from minigpt.schema import PositiveInt, options


@register("linear", "low_rank")
class LowRankLinear(LinearMap):
    """y = (x A^T) B^T + b: a weight W = B A of rank r.  Sainath et al. 2013, doi:10.1109/ICASSP.2013.6638949.

    rank: None is a quarter of the smaller of the two widths. Learns A: (r, in), B: (out, r) and b: (out,). B starts as
    the init policy starts a full matrix in its place and A with a variance of 1 / r, so that W has that matrix's
    spread.
    """

    @options
    class Config:
        rank: PositiveInt | None = None

    cases = [{"rank": 3}]

    def __init__(self, config: Config, ctx: BuildContext, in_features: int, out_features: int, role: Role, bias: bool):
        super().__init__(config, ctx, in_features, out_features, role, bias)
        least = min(in_features, out_features)
        self.rank = config.rank or max(1, least // 4)
        if self.rank > least:
            raise UserError(
                f"linear.rank: {self.rank} is more than a map of {in_features} x {out_features} can have. Take at most "
                f"{least}, or another one for this place: sites.linear.<site>.rank"
            )
        del self.weight
        self.a = nn.Parameter(torch.empty(self.rank, in_features))
        self.b = nn.Parameter(torch.empty(out_features, self.rank))

    def init_parameters(self, init: Initialiser) -> None:
        spread = 1 / math.sqrt(self.rank)
        init.values(self.a, lambda generator: spread * torch.randn(self.a.shape, generator=generator), "weight")
        init.matrix(self.b, self.role, fan_in=self.in_features, fan_out=self.out_features)
        if self.bias is not None:
            init.constant(self.bias, 0.0, "bias")

    def effective_weight(self) -> Tensor:
        return self.b @ self.a

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(F.linear(x, self.a), self.b, self.bias)

    def cost(self, work: Work) -> Cost:
        """Two products in turn; what is in between stays in the kernel."""
        rows, cost = self.rows_of(work), super().cost(work)
        n_in, n_out, rank = self.in_features, self.out_features, self.rank
        products = (Matmul(rows, n_in, rank, left_bits=work.input_bits), Matmul(rows, rank, n_out))
        return dataclasses.replace(cost, weights_read={"native": self.own_params()}, matmuls=products)
