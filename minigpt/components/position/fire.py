"""FIRE: a learned function of the distance, as a share of how far back there is to look."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minigpt.components.base import BuildContext, full_precision
from minigpt.components.initialiser import Initialiser
from minigpt.components.position.base import Place, Position
from minigpt.cost import Cost, Matmul, Work
from minigpt.registry import register
from minigpt.schema import PositiveFloat, PositiveInt, options


@register("position", "fire")
class FirePosition(Position):
    """y_ts = s_ts + f_h(g(t - s) / g(max(L, t))), s_ts the score of query t and key s in head h, g(x) = log(c x + 1), t
    from 0 on.

    Li et al. 2023, arXiv:2310.04418. f: 1 -> ``hidden`` -> n_head, relu between. The argument is between 0 and 1
    however long the context is; below the threshold L, distances are told apart as they are. Every layer learns its own
    f.

    Learns the matrices of f, up: (hidden, 1) and down: (n_head, hidden), their biases: (hidden,) and (n_head,), c: ()
    from c_init, and L / threshold_init as threshold: (), both taken without their sign.
    """

    places = frozenset({"score"})
    steps: Tensor

    @options
    class Config:
        hidden: PositiveInt = 32
        c_init: PositiveFloat = 0.1
        threshold_init: PositiveFloat = 512.0

    cases = [{"hidden": 5}, {"c_init": 1.0, "threshold_init": 8.0}]

    def __init__(self, config: Config, ctx: BuildContext, serves: frozenset[Place], width: int):
        super().__init__(config, ctx, serves, width)
        self.config, self.n_head = config, ctx.n_head
        self.up = nn.Parameter(torch.empty(config.hidden, 1))
        self.up_bias = nn.Parameter(torch.empty(config.hidden))
        self.down = nn.Parameter(torch.empty(ctx.n_head, config.hidden))
        self.down_bias = nn.Parameter(torch.empty(ctx.n_head))
        self.c = nn.Parameter(torch.empty(()))
        self.threshold = nn.Parameter(torch.empty(()))  # in units of threshold_init: of the size other parameters have
        self.register_buffer("steps", torch.empty(ctx.block_size), persistent=False)

    def init_parameters(self, init: Initialiser) -> None:
        for matrix in (self.up, self.down):  # a function of one number, as torch starts a linear map
            init.values(matrix, functools.partial(_uniform, matrix.shape), "position")
        init.constant(self.up_bias, 0.0, "bias")
        init.constant(self.down_bias, 0.0, "bias")
        init.constant(self.c, self.config.c_init, "scalar")
        init.constant(self.threshold, 1.0, "scalar")

    def init_buffers(self) -> None:
        self.steps.copy_(torch.arange(len(self.steps)))

    def score_bias(
        self, q: Tensor, query_position: Tensor, key_position: Tensor, scores: Tensor | None = None
    ) -> Tensor:
        distance = (query_position[..., :, None] - key_position[..., None, :]).clamp_min(0)  # (T, S) or (B, T, S)
        c, threshold = self.c.abs(), self.threshold.abs() * self.config.threshold_init
        reach = torch.log(c * torch.maximum(self.steps, threshold) + 1) + 1e-6  # of every position: a table
        share = torch.log(c * distance + 1) / reach[query_position][..., None]  # (..., T, S)
        with full_precision(q.device):  # narrow formats do not tell far distances apart
            hidden = F.relu(F.linear(share[..., None], self.up, self.up_bias))  # (..., T, S, hidden)
            bias = F.linear(hidden, self.down, self.down_bias)
        return bias.movedim(-1, -3)

    def cost(self, work: Work) -> Cost:
        """``work.elements``: scores. f is evaluated once per score of a sequence, and added in all sequences."""
        n, hidden = work.elements, len(self.up)
        pairs = n // (work.batch * self.n_head)
        ops = {"mul": 2 * pairs, "add": n + pairs * (1 + hidden + self.n_head), "log": pairs, "cmp": pairs * hidden}
        return Cost(
            params=self.own_params(),
            weights_read={"native": self.own_params()},
            matmuls=(Matmul(pairs, 1, hidden), Matmul(pairs, hidden, self.n_head)),
            ops=ops,
            activations=2 * n,
            passes=1,
        )


def _uniform(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """(out, in), evenly within 1 / sqrt(in) of 0."""
    return torch.empty(shape).uniform_(-(shape[1] ** -0.5), shape[1] ** -0.5, generator=generator)
