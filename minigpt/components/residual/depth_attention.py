"""Every sub-layer attends to the outputs of all before it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from minigpt.components.base import BuildContext, full_precision
from minigpt.components.initialiser import Initialiser
from minigpt.components.residual.base import Place, Residual
from minigpt.cost import Cost, Matmul, Work
from minigpt.errors import UserError
from minigpt.registry import register

_EPS = 1e-6


@register("residual", "depth_attention")
class DepthAttention(Residual):
    """h = sum_i a_i v_i, a = softmax_i(<w, v_i / rms(v_i)>) over the embedded token v_0 and the outputs v_i of all
    earlier sub-layers.  Kimi Team 2026 (Attention Residuals), arXiv:2603.15031.

    The stream is the list of those outputs, (B, T, 1 + earlier, d_model): a sub-layer reads a mix of its own, writing
    adds an entry. Learns w: (d_model,) for each reader, which starts at 0, where the mix is the mean. The first reader
    has one entry to read and learns nothing. Computed in fp32 at least.
    """

    stream = "the list of all sub-layers' outputs"

    def __init__(self, config: Any, ctx: BuildContext, place: Place):
        super().__init__(config, ctx, place)
        self.query: nn.Parameter | None = nn.Parameter(torch.empty(ctx.d_model))
        self.earlier: int | None = None

    def follow(self, earlier: int) -> None:
        if self.earlier not in (None, earlier):
            raise UserError(
                f"residual=depth_attention: one block stands after {self.earlier} and after {earlier} sub-layers, and "
                f"reads the outputs of them all. Share no blocks, or choose residual=add"
            )
        self.earlier = earlier
        if earlier == 0:
            self.query = None

    def init_parameters(self, init: Initialiser) -> None:
        if self.query is not None:
            init.constant(self.query, 0.0, "gain")

    def open(self, x: Tensor) -> Tensor:
        return x[..., None, :]

    def read(self, stream: Tensor) -> Tensor:
        if self.query is None:
            return stream[..., 0, :]
        with full_precision(stream.device):
            size = torch.rsqrt(stream.square().mean(dim=-1, keepdim=True) + _EPS)  # (B, T, n, 1)
            weights = ((stream @ self.query[:, None]) * size).softmax(dim=-2)  # (B, T, n, 1)
            return (weights.transpose(-2, -1) @ stream).squeeze(-2)  # (B, T, d_model)

    def write(self, stream: Tensor, update: Tensor) -> Tensor:
        return torch.cat([stream, update[..., None, :].to(stream.dtype)], dim=-2)

    def close(self, stream: Tensor) -> Tensor:
        return self.read(stream)

    def hardware_form(self, work: Work) -> dict[str, int]:
        """Torch copies the list to add an entry to it."""
        return {"activations": 0 if self.place == "model" else 2 * self._entries * work.elements}

    def cost(self, work: Work) -> Cost:
        """Of a read, and at a sub-layer of a write."""
        n, rows, entries, params = work.elements, work.rows, self._entries, self.own_params()
        written = 0 if self.place == "model" else 2 * n
        if self.query is None:
            return Cost(activations=2 * n + written)
        each = entries * rows
        return Cost(
            params=params,
            weights_read={"native": params},
            matmuls=(Matmul(each, n // rows, 1), Matmul(1, entries, n // rows, rows, weight_format=None)),
            # per entry: its mean square, the score, and softmax over the entries
            ops={"mul": entries * n + 3 * each, "add": entries * n + 2 * each, "rsqrt": each, "max": each, "sub": each,
                 "exp": each},
            activations=(entries + 1) * n + written,
            reductions=4,
            passes=2,
        )  # fmt: skip

    @property
    def _entries(self) -> int:
        """How many outputs it reads."""
        return 1 + (self.earlier or 0)
