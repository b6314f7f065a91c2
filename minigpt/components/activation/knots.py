"""What activations made of pieces share: where their knots lie, what they start as, and lines looked up."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Density = Literal["linear", "quad", "exp"]
Function = Literal["gelu", "silu", "relu", "tanh"]
FUNCTIONS: dict[Function, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu, "silu": F.silu, "relu": F.relu, "tanh": torch.tanh,
}  # fmt: skip
_STEEPNESS = math.log(32)  # with ``exp``, the outermost gap is so many times the innermost


def spread(points: int, bound: float, density: Density) -> Tensor:
    """(points,) knots from -bound to bound in double precision, evenly, or closer together near 0."""
    u = torch.linspace(-1, 1, points, dtype=torch.float64)
    if density == "quad":
        u = u * u.abs()
    elif density == "exp":
        u = u.sign() * torch.expm1(_STEEPNESS * u.abs()) / math.expm1(_STEEPNESS)
    return bound * u


def columns(x: Tensor, tables: Tensor) -> Tensor:
    """(..., C) -> (C, N) beside a table for each channel, (1, N C) beside one for all, in the tables' precision."""
    x = x.to(tables.dtype)
    return x.reshape(1, -1) if len(tables) == 1 else x.flatten(0, -2).T.contiguous()


def restored(y: Tensor, x: Tensor) -> Tensor:
    """The way back from :func:`columns`, to the shape and precision of ``x``."""
    return (y if len(y) == 1 else y.T).reshape(x.shape).to(x.dtype)


def place(x: Tensor, low: float, per_unit: float, most: int) -> Tensor:
    """Which of the even pieces from ``low`` on each element lies in, 0 to ``most``; a NaN in the first."""
    return ((x.detach() - low) * per_unit).clamp(0, most).long().clamp_(min=0)


def on_lines(x: Tensor, index: Tensor, gaps: Tensor | float, knots: Tensor, heights: Tensor) -> Tensor:
    """slope x + intercept of the piece that ``index`` says; x, index: (R, N), one row or one per channel.

    gaps: (R, n - 1) or one number. knots: (n,) or (R, n). heights: (R, n). The outermost lines go on beyond the knots.
    """
    slopes = heights.diff(dim=-1) / gaps
    intercepts = heights[:, :-1] - slopes * knots[..., :-1]
    return torch.addcmul(intercepts.gather(1, index), slopes.gather(1, index), x)
