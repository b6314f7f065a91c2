"""Layer normalisation."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minigpt.components.base import BuildContext
from minigpt.components.initialiser import Initialiser
from minigpt.components.norm.base import Norm
from minigpt.cost import Cost, Work
from minigpt.registry import register
from minigpt.schema import PositiveFloat, options


@register("norm", "layernorm")
class LayerNorm(Norm):
    """y = g * (x - mean(x)) / sqrt(var(x) + eps) + b.  Ba, Kiros & Hinton 2016, arXiv:1607.06450.

    x: (..., width) -> (..., width). Learns g: (width,) unless ``gain`` is false and, with ``bias``, b: (width,). bias:
    None follows model.bias.
    Mean and variance can share one walk over the row, so a pipeline waits for 2 reductions fused into 1 pass.
    """

    reductions = 2

    @options
    class Config:
        eps: PositiveFloat = 1e-5
        gain: bool = True
        bias: bool | None = None

    cases = [
        {"eps": 0.1, "gain": False},
        {"bias": False, "with": {"sites": {"norm": {"embedding": {"name": "layernorm", "eps": 0.1}}}}},
        {"bias": True, "with": {"bias": False}},
    ]

    def __init__(self, config: Config, ctx: BuildContext, width: int):
        super().__init__()
        bias = ctx.bias if config.bias is None else config.bias
        self.gain = nn.Parameter(torch.empty(width)) if config.gain else None
        self.bias = nn.Parameter(torch.empty(width)) if bias else None
        self.eps, self.shape = config.eps, (width,)

    def init_parameters(self, init: Initialiser) -> None:
        if self.gain is not None:
            init.constant(self.gain, 1.0, "gain")
        if self.bias is not None:
            init.constant(self.bias, 0.0, "bias")

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.shape, self.gain, self.bias, self.eps)

    def hardware_form(self, work: Work) -> dict[str, int]:
        """Torch centres x twice, for the variance and for the result; mean and variance are scaled, and eps is added,
        once per row."""
        return {"add": work.elements + work.rows, "mul": 2 * work.rows}

    def cost(self, work: Work) -> Cost:
        n = work.elements
        ops = {
            "add": (3 if self.bias is None else 4) * n,
            "mul": (2 if self.gain is None else 3) * n,
            "rsqrt": work.rows,
        }
        params = self.own_params()
        return Cost(params=params, weights_read={"native": params}, ops=ops, activations=2 * n, reductions=2, passes=2)
