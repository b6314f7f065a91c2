"""An MLP whose functions sit on the edges and are learned."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from minigpt.components.base import BuildContext
from minigpt.components.call import Call
from minigpt.components.mlp.base import FeedForward
from minigpt.components.quantiser.base import mlp_quantiser_costs
from minigpt.cost import Cost, Work
from minigpt.errors import UserError
from minigpt.registry import register
from minigpt.schema import PositiveInt, Range, options

_EPS = 1e-6
_GRID = 5


@register("mlp", "kan")
class KAN(FeedForward):
    """Two layers y_j = sum_i f_ji(x_i), f_ji(x) = sum_k c_jik B_k(x') + w_ji act(x).  Liu et al. 2024,
    arXiv:2404.19756.

    basis: ``legendre`` polynomials P_1 to P_degree (P_0 would be a bias for every edge), or ``bspline``, the degree +
    grid B-splines of this ``degree`` over ``grid`` equal pieces (None: 5) of [-1, 1]. x' is in [-1, 1]: ``max`` is x
    over the largest magnitude of its own token, ``tanh`` is tanh(x). base: whether there is the act(x). hidden: width
    in between; None is expansion * d_model (None: 1). At its defaults it has the parameters of an MLP of expansion 4.

    x (B, T, n) -> B_k(x') and act(x), (B, T, n F) -> (B, T, hidden), F functions; and the same from hidden to d_model.
    Learns c and w as the matrices up: (hidden, d_model F) and down: (d_model, hidden F).
    """

    uses = frozenset({"activation", "linear", "quantiser"})
    knots: Tensor

    @options
    class Config:
        basis: Literal["legendre", "bspline"] = "legendre"
        degree: Annotated[int, Range(ge=1, le=16)] = 3
        grid: Annotated[int, Range(ge=1, le=256)] | None = None
        normalise: Literal["max", "tanh"] = "max"
        base: bool = True
        expansion: Annotated[float, Range(gt=0, le=1024)] | None = None
        hidden: PositiveInt | None = None

    cases = [
        {"basis": "bspline", "expansion": 2.0},
        {"basis": "bspline", "grid": 3, "degree": 2, "base": False},
        {"normalise": "tanh", "degree": 4, "hidden": 24},
    ]

    def __init__(self, config: Config, ctx: BuildContext):
        super().__init__()
        if config.grid is not None and config.basis != "bspline":
            raise UserError(
                "mlp.grid: Legendre polynomials have no pieces. Set mlp.basis=bspline, or leave mlp.grid out"
            )
        if config.hidden is not None and config.expansion is not None:
            raise UserError(
                "mlp.expansion: does nothing beside mlp.hidden, which says the width. Leave one of them out"
            )
        self.degree, self.normalise = config.degree, config.normalise
        self.grid = (config.grid or _GRID) if config.basis == "bspline" else None
        self.functions = config.degree + (self.grid or 0)
        self.width = ctx.d_model
        self.hidden = config.hidden or max(1, round((config.expansion or 1.0) * ctx.d_model))
        features = self.functions + config.base
        self.up = ctx.linear(ctx.d_model * features, self.hidden, site="up")
        self.down = ctx.linear(self.hidden * features, ctx.d_model, site="down", role="residual_out")
        self.base_in = ctx.activation(ctx.d_model, site="mlp") if config.base else None
        self.base_hidden = ctx.activation(self.hidden, site="mlp") if config.base else None
        if self.grid is not None:
            self.register_buffer("knots", torch.empty(self.grid + 2 * self.degree + 1), persistent=False)

        self.quantise = ctx.quantisers("mlp_input", "mlp_hidden", "mlp_output")

    def init_buffers(self) -> None:
        if self.grid is not None:  # in pieces from -1
            self.knots.copy_(torch.arange(-self.degree, self.grid + self.degree + 1))

    def forward(self, x: Tensor, call: Call) -> Tensor:
        hidden = self.up(self.edges(self.quantise["mlp_input"](x), self.base_in))
        return self.quantise["mlp_output"](self.down(self.edges(self.quantise["mlp_hidden"](hidden), self.base_hidden)))

    def edges(self, x: Tensor, base: Any) -> Tensor:
        """(B, T, n) -> the functions of every channel: (B, T, n F)."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        if self.normalise == "tanh":
            inside = wide.tanh()
        else:
            inside = wide / wide.abs().amax(dim=-1, keepdim=True).clamp_min(_EPS)
        found = legendre(inside, self.degree) if self.grid is None else self._splines(inside)
        return torch.cat([each.to(x.dtype) for each in found] + ([] if base is None else [base(x)]), dim=-1)

    def _splines(self, x: Tensor) -> list[Tensor]:
        assert self.grid is not None
        return [bsplines((x + 1) * (self.grid / 2), self.knots.to(x.dtype), self.degree).flatten(-2)]

    def hardware_form(self, work: Work) -> dict[str, int]:
        """Torch guards the row's largest, and divides by it instead of taking one reciprocal."""
        rows = 2 * work.all_tokens * (self.normalise == "max")
        return {"cmp": rows, "recip": -rows}

    def cost(self, work: Work) -> Cost:
        rows = work.all_tokens
        n = rows * (self.width + self.hidden)
        ops = {"tanh": n} if self.normalise == "tanh" else {"abs": n, "max": n, "mul": n, "recip": 2 * rows}
        each = self._legendre_ops() if self.grid is None else self._spline_ops(self.grid)
        for op, count in each.items():
            ops[op] = ops.get(op, 0) + count * n
        parts = {"up": self.up.cost(work), "down": self.down.cost(work)}
        for name, width in (("base_in", self.width), ("base_hidden", self.hidden)):
            if getattr(self, name) is not None:
                parts[name] = getattr(self, name).cost(work.over(rows, rows * width))
        parts |= mlp_quantiser_costs(self.quantise, work, self.width, rows * self.hidden)
        features = self.functions + 2 * (self.base_in is not None)
        tanh = self.normalise == "tanh"
        return Cost(
            ops=ops, activations=(1 + features) * n, reductions=0 if tanh else 2, passes=2 if tanh else 4, parts=parts
        )

    def _legendre_ops(self) -> dict[str, int]:
        """Per element: two products and a difference for P_2, three and one for each further."""
        further = max(0, self.degree - 2)
        return {"mul": 2 * (self.degree > 1) + 3 * further, "sub": max(0, self.degree - 1)}

    def _spline_ops(self, grid: int) -> dict[str, int]:
        """Per element: its place among the knots, the piece it is in, and the recursion, whose first step divides by
        one."""
        left = [grid + 2 * self.degree - d for d in range(1, self.degree + 1)]  # functions after step d
        pieces = grid + 2 * self.degree
        return {
            "add": 1, "mul": 1 + 3 * sum(left) - left[0], "sub": pieces + 1 + sum(left), "cmp": 2 * pieces,
        }  # fmt: skip


def legendre(x: Tensor, degree: int) -> list[Tensor]:
    """P_1 to P_degree of x, by (n + 1) P_(n+1) = (2 n + 1) x P_n - n P_(n-1)."""
    found = [x]
    if degree > 1:
        found.append(1.5 * (x * x) - 0.5)
    for n in range(2, degree):
        found.append((2 * n + 1) / (n + 1) * (x * found[-1]) - n / (n + 1) * found[-2])
    return found


def bsplines(x: Tensor, knots: Tensor, degree: int) -> Tensor:
    """(..., n) -> (..., n, len(knots) - 1 - degree): B-splines over knots that are one apart, by the recursion of Cox
    and de Boor."""
    beyond = x[..., None] - knots  # (..., n, knots)
    splines = ((beyond[..., :-1] >= 0) & (beyond[..., 1:] < 0)).to(x.dtype)
    for d in range(1, degree + 1):
        rising, falling = beyond[..., : -d - 1] * splines[..., :-1], beyond[..., d + 1 :] * splines[..., 1:]
        splines = rising - falling if d == 1 else (rising - falling) / d
    return splines
