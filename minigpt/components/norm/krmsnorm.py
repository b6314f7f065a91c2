"""Root-mean-square normalisation by a few of the dimensions."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from minigpt.components.base import BuildContext
from minigpt.components.norm.base import RowScaledNorm
from minigpt.cost import Cost, Work
from minigpt.errors import UserError
from minigpt.registry import register
from minigpt.schema import NonNegativeInt, PositiveFloat, PositiveInt, options

_LARGEST = {"int8": 127, "int16": 32767}


@register("norm", "krmsnorm")
class KRMSNorm(RowScaledNorm):
    """y = g * x / sqrt(mean of k squares + eps): partial RMSNorm (arXiv:1910.07467) with a fixed number of dimensions.

    x: (..., width) -> (..., width). Learns g: (width,) unless ``gain`` is false. dims: which k of the row, the first,
    the last, or some drawn once from ``seed`` and the layer. quantize: the k numbers are rounded to whole ones of 8 or
    16 bits, with the scale of their row's largest, so that no token's scale depends on another; the squares are summed
    as whole numbers and multiplied by the squared scale. Rounding passes gradients straight through.
    """

    @options
    class Config:
        k: PositiveInt = 10
        dims: Literal["first", "last", "random"] = "first"
        seed: NonNegativeInt = 0
        quantize: Literal["none", "int8", "int16"] = "none"
        eps: PositiveFloat = 1e-6
        gain: bool = True

    cases = [
        {"k": 4, "eps": 0.1, "gain": False},
        {"dims": "last", "quantize": "int8"},
        {"dims": "random", "seed": 1, "quantize": "int16"},
    ]
    changes = {"quantize": "work"}

    chosen: Tensor

    def __init__(self, config: Config, ctx: BuildContext, width: int):
        super().__init__(width, config.gain)
        if config.k > width:
            raise UserError(f"norm.k: {config.k} is more than the {width} dimensions here. Take at most {width}")
        if config.seed and config.dims != "random":
            raise UserError(f"norm.seed: does nothing with norm.dims={config.dims}. Leave it out, or set dims=random")
        self.k, self.dims, self.eps, self.width = config.k, config.dims, config.eps, width
        self.seed = config.seed * 8192 + ctx.layer_index + 1
        self.largest = _LARGEST.get(config.quantize)
        self.reductions = 1 if self.largest is None else 2
        if self.dims == "random":
            self.register_buffer("chosen", torch.empty(config.k, dtype=torch.int64), persistent=False)

    def init_buffers(self) -> None:
        if self.dims == "random":
            order = torch.randperm(self.width, generator=torch.Generator().manual_seed(self.seed))
            self.chosen.copy_(order[: self.k].sort().values)

    def row_scale(self, x: Tensor) -> Tensor:
        few = self._few(x)  # (..., k)
        if self.largest is not None:
            step = (few.detach().abs().amax(dim=-1, keepdim=True) / self.largest).clamp_min(1e-30)
            few = few + (step * (few / step).round() - few).detach()
        return torch.rsqrt(few.square().mean(dim=-1, keepdim=True) + self.eps)

    def _few(self, x: Tensor) -> Tensor:
        if self.dims == "random":
            return x.index_select(-1, self.chosen)
        return x[..., : self.k] if self.dims == "first" else x[..., -self.k :]

    def hardware_form(self, work: Work) -> dict[str, int]:
        """eps is added once per row, and the mean is one scaling per row. Rounded numbers torch scales back one by one,
        adds to the unrounded ones for their gradient, and guards against a row of zeros."""
        if self.largest is None:
            return {"add": work.rows, "mul": work.rows}
        few = work.rows * self.k
        return {"add": work.rows + 2 * few, "mul": few + work.rows, "cmp": work.rows, "recip": -work.rows}

    def cost(self, work: Work) -> Cost:
        n, few, rows, params = work.elements, work.rows * self.k, work.rows, self.own_params()
        ops = {"add": few, "mul": few + (1 if self.gain is None else 2) * n, "rsqrt": rows}
        if self.largest is not None:  # the largest, its reciprocal, and each number scaled and rounded; the scale back
            ops |= {"abs": few, "max": few, "recip": rows, "round": few, "mul": ops["mul"] + few + rows}
        return Cost(
            params=params,
            weights_read={"native": params},
            ops=ops,
            activations=2 * n,
            reductions=self.reductions,
            passes=2,
        )
