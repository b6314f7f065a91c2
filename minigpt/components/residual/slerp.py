"""The stream walks on the unit sphere towards what joins it."""

from __future__ import annotations

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minigpt.components.base import BuildContext
from minigpt.components.initialiser import Initialiser
from minigpt.components.residual.base import Place, Residual
from minigpt.cost import Cost, Work
from minigpt.registry import register
from minigpt.schema import Range, options

_EPS = 1e-6  # of the mean square: a zero vector keeps a finite gradient
_NEAR = 1e-6  # how near to 1 and -1 the cosine is taken: there the angle's gradient is infinite


@register("residual", "slerp")
class Slerp(Residual):
    """x' = (sin((1 - a) w) u + sin(a w) v) / sin w, w the angle between u = x / |x| and v = y / |y|.  Shoemake 1985,
    doi:10.1145/325165.325242; as a residual Loshchilov et al. 2024 (nGPT), arXiv:2410.01131.

    The stream stays on the unit sphere: a sub-layer turns it by the share a of the angle and cannot make it longer.
    Where the angle is 0 or pi its limit is taken; computed in fp32 at least. Learns a: (1,), which starts at
    ``share_init``; with learned=false it stays there.
    """

    @options
    class Config:
        share_init: Annotated[float, Range(gt=0, lt=1)] = 0.1
        learned: bool = True

    cases = [{"share_init": 0.5}, {"learned": False}]
    changes = {"learned": "gradient"}

    def __init__(self, config: Config, ctx: BuildContext, place: Place):
        super().__init__(config, ctx, place)
        self.share_init = config.share_init
        self.share = nn.Parameter(torch.empty(1)) if config.learned and place != "model" else None

    def init_parameters(self, init: Initialiser) -> None:
        if self.share is not None:
            init.constant(self.share, self.share_init, "scalar")

    def write(self, stream: Tensor, update: Tensor) -> Tensor:
        x, y = _unit(stream), _unit(update)
        angle = (x * y).sum(dim=-1, keepdim=True).clamp(_NEAR - 1, 1 - _NEAR).acos()  # (B, T, 1)
        share = self.share_init if self.share is None else self.share
        kept, taken = torch.sin((1 - share) * angle), torch.sin(share * angle)
        sine = torch.sin(angle)
        return ((kept / sine) * x + (taken / sine) * y).to(stream.dtype)

    def hardware_form(self, work: Work) -> dict[str, int]:
        """Torch normalises both with a scaling and a guard per row, and divides by the sine twice."""
        if self.place == "model":
            return {}
        return {"add": 2 * work.rows, "mul": 2 * work.elements + 2 * work.rows, "recip": -work.rows}

    def join_cost(self, work: Work) -> Cost:
        n, rows, params = work.elements, work.rows, self.own_params()
        # per element: two squares, two scalings, the dot product, the weighted sum; per row: the angle's arc cosine,
        # three sines, and what is between them
        ops = {
            "mul": 7 * n + 4 * rows, "add": 4 * n, "rsqrt": 2 * rows, "cmp": rows, "lut": rows, "sin": 3 * rows,
            "recip": rows,
        }  # fmt: skip
        return Cost(params=params, weights_read={"native": params}, ops=ops, activations=3 * n, reductions=2, passes=3)


def _unit(x: Tensor) -> Tensor:
    """The same directions with length one; zero stays zero."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    return F.rms_norm(wide, (x.shape[-1],), eps=_EPS) / math.sqrt(x.shape[-1])
