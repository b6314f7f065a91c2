"""Softmax with room for nothing: a row may give less than its whole weight away."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor, nn

from minigpt.components.base import BuildContext
from minigpt.components.initialiser import Initialiser
from minigpt.components.softmax.base import Softmax, softmax_beside
from minigpt.cost import Cost, Work
from minigpt.errors import UserError
from minigpt.registry import register
from minigpt.schema import Range, options


@register("softmax", "softmax1")
class Softmax1(Softmax):
    """y = exp(s) / (exp(c) + sum(exp(s))): softmax beside one more key, whose score is c and whose value is zero.

    Miller 2023, "Attention is off by one" (c = 0, so that one is added to the sum); a learned c per head is the sink of
    gpt-oss, arXiv:2508.10925. Rows sum to less than one. The maximum that is subtracted is that of the scores and c, so
    no score is too large or too small. The fused kernel is given that key and one explicit mask.

    init: c, or, with ``learned``, where it starts. It learns one c for all heads, (1,), or with ``per_head`` one each:
    (H, 1, 1).
    """

    fused = True
    normalised = False
    reductions = 2

    @options
    class Config:
        learned: bool = False
        per_head: bool = False
        init: Annotated[float, Range(ge=-1e4, le=1e4)] = 0.0

    cases = [{"init": 1.0}, {"learned": True, "init": -1.0}, {"learned": True, "per_head": True}]
    changes = {"learned": "gradient"}

    def __init__(self, config: Config, ctx: BuildContext):
        super().__init__()
        if config.per_head and not config.learned:
            raise UserError(
                "softmax.per_head: does nothing while all heads keep one constant. Set softmax.learned=true"
            )
        self.init = config.init
        shape = (ctx.n_head, 1, 1) if config.per_head else (1,)
        if config.learned:
            self.c = nn.Parameter(torch.empty(shape))
        else:
            self.register_buffer("c", torch.empty(shape), persistent=False)

    def init_parameters(self, init: Initialiser) -> None:
        if isinstance(self.c, nn.Parameter):
            init.constant(self.c, self.init, "scalar")

    def init_buffers(self) -> None:
        if not isinstance(self.c, nn.Parameter):
            self.c.fill_(self.init)

    def sink(self) -> Tensor:
        return self.c

    def forward(self, scores: Tensor) -> Tensor:
        return softmax_beside(scores, self.c)

    def hardware_form(self, work: Work) -> dict[str, int]:
        """Torch divides by the row's sum; in hardware that is one reciprocal per row and a multiply per element."""
        return {"recip": -work.rows, "mul": work.rows}

    def cost(self, work: Work) -> Cost:
        n, params = work.elements, self.own_params()
        beside = n + work.rows  # c takes part in maximum and sum as one more score
        ops = {"max": beside, "sub": beside, "exp": beside, "add": beside, "mul": n, "recip": work.rows}
        weights = {"native": params} if params else {}
        return Cost(params=params, weights_read=weights, ops=ops, activations=2 * n, reductions=2, passes=3)
