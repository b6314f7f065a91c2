"""Rotary position embedding."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from torch import Tensor

from minigpt.components.base import BuildContext
from minigpt.components.call import Call
from minigpt.components.position.base import Place, Position
from minigpt.cost import Cost, Work
from minigpt.errors import UserError
from minigpt.registry import register
from minigpt.schema import PositiveFloat, Range, options


@register("position", "rope")
class RotaryPosition(Position):
    """Turn each pair (x_i, x_{i + r/2}) of a head by the angle t theta^(-2i/r).  Su et al. 2021, arXiv:2104.09864.

    Scores then depend on the distance of two tokens alone. r = fraction * width dimensions are turned (the first
    ones), the rest pass. Tables of sine and cosine are kept in fp32 for block_size positions.
    """

    places = frozenset({"rotary"})
    cos: Tensor
    sin: Tensor

    @options
    class Config:
        theta: PositiveFloat = 10000.0
        fraction: Annotated[float, Range(gt=0, le=1)] = 1.0

    cases = [{"theta": 100.0}, {"fraction": 0.5}]

    def __init__(self, config: Config, ctx: BuildContext, serves: frozenset[Place], width: int):
        super().__init__(config, ctx, serves, width)
        self.turned = int(width * config.fraction) // 2 * 2
        if self.turned == 0:
            raise UserError(
                f"position: rope cannot turn a pair of the {width} dimensions of a head with "
                f"position.fraction={config.fraction}. Take a larger fraction or head_dim, or position=nope"
            )
        self.theta = config.theta
        self.register_buffer("cos", torch.empty(ctx.block_size, self.turned // 2), persistent=False)
        self.register_buffer("sin", torch.empty(ctx.block_size, self.turned // 2), persistent=False)

    def init_buffers(self) -> None:
        exponent = torch.arange(0, self.turned, 2, dtype=torch.float64) / self.turned
        places = torch.arange(self.cos.shape[0], dtype=torch.float64)
        angle = places[:, None] * self.theta**-exponent  # (block_size, r/2)
        self.cos.copy_(angle.cos())
        self.sin.copy_(angle.sin())

    def rotate(self, x: Tensor, call: Call, which: Literal["query", "key"]) -> Tensor:
        span = call.span
        if span.padding is None:
            cos = self.cos[span.start : span.start + span.length]  # (T, r/2)
            sin = self.sin[span.start : span.start + span.length]
        else:
            cos = self.cos[span.positions][:, None]  # (B, 1, T, r/2)
            sin = self.sin[span.positions][:, None]
        half = self.turned // 2
        first, second, rest = x[..., :half], x[..., half : self.turned], x[..., self.turned :]
        turned = (first * cos - second * sin, second * cos + first * sin)  # in the tables' fp32, whatever x comes in
        return torch.cat(turned if rest.shape[-1] == 0 else (*turned, rest), dim=-1).to(x.dtype)

    def hardware_form(self, work: Work) -> dict[str, int]:
        """Torch keeps its tables as a tensor, and copies the dimensions that are not turned."""
        return {
            "lut": -work.all_tokens * self.turned,
            "activations": 2 * work.rows * (self.width - self.turned),
        }

    def cost(self, work: Work) -> Cost:
        """``work.rows``: query and key heads turned, over all tokens."""
        r = work.rows * self.turned
        ops = {"mul": 2 * r, "add": r, "lut": work.all_tokens * self.turned}
        return Cost(ops=ops, activations=2 * r, passes=1)
