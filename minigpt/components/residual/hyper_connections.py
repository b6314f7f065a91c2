"""Several streams, mixed anew at every sub-layer."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from torch import Tensor, nn

from minigpt.components.base import BuildContext, full_precision
from minigpt.components.initialiser import Initialiser
from minigpt.components.residual.base import Place, Residual
from minigpt.cost import Cost, Matmul, Work
from minigpt.registry import register
from minigpt.schema import Range, options

_EPS = 1e-6
_SCALE = 0.01  # of what depends on the token, at first


@register("residual", "hyper_connections")
class HyperConnections(Residual):
    """h = A_m^T H, H' = A_r^T H + b f(h) for a sub-layer f and n streams H.  Zhu et al. 2024, arXiv:2409.19606.

    With ``dynamic`` every connection depends on the token: A(H) = A + s_a tanh(H_n W_a^T), b(H) = b + s_b
    tanh(H_n w_b^T), H_n the streams at root mean square one. The streams open as copies of the embedded token and close
    as their sum. A block starts as plain addition: A_m picks stream k mod n for the k-th sub-layer, A_r keeps every
    stream, b writes to all; W_a and w_b start at 0. Computed in fp32 at least.

    H: (B, T, n, d_model), h: (B, T, d_model). Learns A = [A_m, A_r]: (n, 1 + n), b: (n, 1), and dynamic W_a:
    (1 + n, d_model), w_b: (1, d_model), s_a and s_b: (1,), which start at 0.01.
    """

    @options
    class Config:
        streams: Annotated[int, Range(ge=2, le=64)] = 4
        dynamic: bool = True

    cases = [{"streams": 2}, {"dynamic": False}]

    a: Any  # each a parameter, or None where the place or the mode has no use for it
    b: Any
    a_weight: Any
    b_weight: Any
    a_scale: Any
    b_scale: Any

    def __init__(self, config: Config, ctx: BuildContext, place: Place):
        super().__init__(config, ctx, place)
        n = self.streams = config.streams
        self.stream = f"{n} streams"
        self.first = (2 * ctx.layer_index + (place == "mlp")) % n
        joins, dynamic = place != "model", place != "model" and config.dynamic
        self.a = nn.Parameter(torch.empty(n, 1 + n)) if joins else None
        self.b = nn.Parameter(torch.empty(n, 1)) if joins else None
        self.a_weight = nn.Parameter(torch.empty(1 + n, ctx.d_model)) if dynamic else None
        self.b_weight = nn.Parameter(torch.empty(1, ctx.d_model)) if dynamic else None
        self.a_scale = nn.Parameter(torch.empty(1)) if dynamic else None
        self.b_scale = nn.Parameter(torch.empty(1)) if dynamic else None

    def init_parameters(self, init: Initialiser) -> None:
        if self.a is None:
            return
        n = self.streams
        picked = torch.zeros(n, 1)
        picked[self.first] = 1.0
        init.values(self.a, torch.cat([picked, torch.eye(n)], dim=1), "scalar")
        init.constant(self.b, 1.0, "scalar")
        for weight, scale in ((self.a_weight, self.a_scale), (self.b_weight, self.b_scale)):
            if weight is not None:
                init.constant(weight, 0.0, "scalar")
                init.constant(scale, _SCALE, "scalar")

    def open(self, x: Tensor) -> Tensor:
        return x[..., None, :].expand(*x.shape[:-1], self.streams, x.shape[-1])

    def read(self, stream: Tensor) -> Tensor:
        with full_precision(stream.device):
            picked = self._connections(stream, self._size(stream), slice(0, 1))  # (B, T, n, 1), or (n, 1)
            return (picked.mT @ stream).squeeze(-2)  # (B, T, d_model)

    def write(self, stream: Tensor, update: Tensor) -> Tensor:
        with full_precision(stream.device):
            size = self._size(stream)
            kept = self._connections(stream, size, slice(1, None))  # (B, T, n, n), or (n, n)
            written = self.b
            if self.b_weight is not None:
                written = self.b + self.b_scale * torch.tanh(stream @ self.b_weight.mT * size)  # (B, T, n, 1)
            return kept.mT @ stream + written * update[..., None, :].to(stream.dtype)

    def close(self, stream: Tensor) -> Tensor:
        return stream.sum(dim=-2)

    def _size(self, stream: Tensor) -> Tensor | None:
        """What brings each stream to root mean square one: (B, T, n, 1)."""
        if self.a_weight is None:
            return None
        return torch.rsqrt(stream.square().mean(dim=-1, keepdim=True) + _EPS)

    def _connections(self, stream: Tensor, size: Tensor | None, columns: slice) -> Tensor:
        """These columns of A, or of A(H)."""
        if self.a_weight is None:
            return self.a[:, columns]
        return self.a[:, columns] + self.a_scale * torch.tanh(stream @ self.a_weight[columns].mT * size)

    def cost(self, work: Work) -> Cost:
        n = self.streams
        if self.place == "model":
            return Cost(ops={"add": n * work.elements}, activations=(n + 1) * work.elements, passes=1)
        return self.join_cost(work)

    def join_cost(self, work: Work) -> Cost:
        n, rows, params = self.streams, work.rows, self.own_params()
        each, width = n * work.elements, work.elements // work.rows
        ops = {"mul": each, "add": each}
        products = [Matmul(1, n, width, rows, weight_format=None), Matmul(n, n, width, rows, weight_format=None)]
        if self.a_weight is not None:
            made = rows * n * (n + 2)  # connections: one read, n kept, one written
            products += [Matmul(rows * n, width, k) for k in (1, n, 1)]
            # the streams' size at the read and at the write; a connection: sized, bent, scaled, added
            ops = {"mul": 3 * each + 2 * rows * n + 2 * made, "add": 3 * each + 2 * rows * n + made, "tanh": made,
                   "rsqrt": 2 * rows * n}  # fmt: skip
        activations = 3 * each + 2 * work.elements
        return Cost(
            params=params, weights_read={"native": params}, matmuls=tuple(products), ops=ops, activations=activations,
            reductions=0 if self.a_weight is None else 2, passes=1 if self.a_weight is None else 2,
        )  # fmt: skip
