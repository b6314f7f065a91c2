"""What rotary positions share: tables of sine and cosine, and the turning of pairs."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from minigpt.components.base import BuildContext
from minigpt.components.call import Call
from minigpt.components.position.base import Place, Position
from minigpt.cost import Cost, Work
from minigpt.errors import UserError


class Rotary(Position):
    """Turns each pair (x_i, x_{i + r/2}) of the first r = ``turned`` dimensions of a head by an angle of its position.

    turned: r. angles: how many different ones a position has, r/2 or 1. Tables are kept in fp32 for block_size
    positions.
    """

    places = frozenset({"rotary"})
    size = 1.0  # of what is turned, as a factor
    tables = 2  # that are looked up per token: cos and sin
    cos: Tensor
    sin: Tensor

    def __init__(
        self,
        config: Any,
        ctx: BuildContext,
        serves: frozenset[Place],
        width: int,
        fraction: float = 1.0,
        angles: int | None = None,
    ):
        super().__init__(config, ctx, serves, width)
        self.turned = int(width * fraction) // 2 * 2
        if self.turned == 0:
            more = f" with position.fraction={fraction}" if fraction < 1 else ""
            raise UserError(
                f"position: {self.name} cannot turn a pair of the {width} dimensions of a head{more}. "
                f"Take a larger fraction or head_dim, or position=nope"
            )
        self.angles = self.turned // 2 if angles is None else angles
        for table in ("cos", "sin"):
            self.register_buffer(table, torch.empty(ctx.block_size, self.angles), persistent=False)

    def frequencies(self) -> Tensor:
        """(angles,) radians per token, in fp64."""
        raise NotImplementedError

    def init_buffers(self) -> None:
        angle = self.steps()[:, None] * self.frequencies()  # (block_size, angles)
        self.cos.copy_(angle.cos() * self.size)
        self.sin.copy_(angle.sin() * self.size)

    def steps(self) -> Tensor:
        """(block_size,) the positions, in fp64."""
        return torch.arange(self.cos.shape[0], dtype=torch.float64)

    def rotate(self, x: Tensor, call: Call, which: Literal["query", "key"]) -> Tensor:
        return self.turn(x, call, self.cos, self.sin)

    def turn(self, x: Tensor, call: Call, cos: Tensor, sin: Tensor) -> Tensor:
        """x: (B, H, T, width), turned by the rows of two tables that belong to this call's tokens."""
        span = call.span
        if span.padding is None:
            cos = cos[span.start : span.start + span.length]  # (T, angles)
            sin = sin[span.start : span.start + span.length]
        else:
            cos = cos[span.positions][:, None]  # (B, 1, T, angles)
            sin = sin[span.positions][:, None]
        half = self.turned // 2
        first, second, rest = x[..., :half], x[..., half : self.turned], x[..., self.turned :]
        turned = (first * cos - second * sin, second * cos + first * sin)  # in the tables' fp32, whatever x comes in
        return torch.cat(turned if rest.shape[-1] == 0 else (*turned, rest), dim=-1).to(x.dtype)

    def hardware_form(self, work: Work) -> dict[str, int]:
        """Torch keeps its tables as a tensor, and copies the dimensions that are not turned."""
        return {
            "lut": -self.tables * work.all_tokens * self.angles,
            "activations": 2 * work.rows * (self.width - self.turned),
        }

    def cost(self, work: Work) -> Cost:
        """``work.rows``: query and key heads turned, over all tokens."""
        r = work.rows * self.turned
        ops = {"mul": 2 * r, "add": r, "lut": self.tables * work.all_tokens * self.angles}
        return Cost(ops=ops, activations=2 * r, passes=1)
