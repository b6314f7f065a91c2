"""T5's relative positions: a learned number for each range of distances."""

from __future__ import annotations

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minigpt.components.base import BuildContext
from minigpt.components.initialiser import Initialiser
from minigpt.components.position.base import Place, Position
from minigpt.cost import Cost, Work
from minigpt.errors import UserError
from minigpt.registry import register
from minigpt.schema import PositiveInt, Range, options


@register("position", "t5_relative")
class T5RelativePosition(Position):
    """y_ts = s_ts + w[bucket(t - s), h], s_ts the score of query t and key s in head h.  Raffel et al. 2019,
    arXiv:1910.10683.

    Distances below buckets/2 have a bucket each, those up to ``max_distance`` share the other half in steps that grow
    by one factor, all beyond are in the last: the causal half of T5's scheme. Every layer learns its own.

    Learns w: (buckets, n_head).
    """

    places = frozenset({"score"})
    bucket: Tensor

    @options
    class Config:
        buckets: Annotated[int, Range(ge=2)] = 32
        max_distance: PositiveInt = 128

    cases = [{"buckets": 8}, {"buckets": 4, "max_distance": 9}]

    def __init__(self, config: Config, ctx: BuildContext, serves: frozenset[Place], width: int):
        super().__init__(config, ctx, serves, width)
        if config.max_distance <= config.buckets // 2:
            raise UserError(
                f"position.max_distance: {config.max_distance} is reached by the {config.buckets // 2} distances that "
                f"have a bucket each, so half of position.buckets={config.buckets} would never be used. Take more than "
                f"{config.buckets // 2}, or fewer buckets"
            )
        self.max_distance = config.max_distance
        self.weight = nn.Parameter(torch.empty(config.buckets, ctx.n_head))
        self.register_buffer("bucket", torch.empty(ctx.block_size, dtype=torch.int64), persistent=False)

    def init_parameters(self, init: Initialiser) -> None:
        init.matrix(self.weight, "position", fan_in=1)

    def init_buffers(self) -> None:
        self.bucket.copy_(buckets_of(torch.arange(len(self.bucket)), len(self.weight), self.max_distance))

    def score_bias(
        self, q: Tensor, query_position: Tensor, key_position: Tensor, scores: Tensor | None = None
    ) -> Tensor:
        distance = query_position[..., :, None] - key_position[..., None, :]  # (T, S) or (B, T, S)
        bias = F.embedding(self.bucket[distance.clamp_min(0)], self.weight)  # (..., T, S, H)
        return bias.movedim(-1, -3)

    def cost(self, work: Work) -> Cost:
        """``work.elements``: scores. One number is read per score of a sequence, and added in all sequences."""
        n = work.elements
        read = {"native": n // work.batch}
        return Cost(params=self.own_params(), weights_read=read, ops={"add": n}, activations=2 * n, passes=1)


def buckets_of(distance: Tensor, buckets: int, max_distance: int) -> Tensor:
    """The bucket of each distance, a whole number from 0 on."""
    alone = buckets // 2
    steps = (distance.double().clamp_min(alone) / alone).log() / math.log(max_distance / alone) * (buckets - alone)
    return torch.where(distance < alone, distance, (alone + steps.long()).clamp_max(buckets - 1))
