"""More weight on targets that are far from the top."""

from __future__ import annotations

import torch.nn.functional as F

from minigpt.data.batch import Tokens
from minigpt.model import Output
from minigpt.registry import register
from minigpt.schema import NonNegativeFloat, options
from minigpt.training.tasks.base import Learned, Task, flat_logits


@register("task", "rank_distance")
class RankDistance(Task):
    """loss = -(1 + scale rank / (V - 1)) log p(target), rank the number of tokens of V whose logit is above the
    target's.

    The rank is a factor and has no gradient of its own. A target at the top counts once, one at the bottom 1 + scale
    times. No paper; in use in ReaLLM-Forge, a fork of nanoGPT.
    """

    in_nats = False

    @options
    class Config:
        scale: NonNegativeFloat = 1.0

    cases = [{"scale": 3.0}]

    def __init__(self, config: Config):
        self.scale = config.scale

    def __call__(self, output: Output, batch: Tokens, step: int) -> Learned:
        logits, targets = flat_logits(output), batch.targets.flatten()
        surprise = F.cross_entropy(logits, targets, reduction="none")  # (B T,)
        above = (logits > logits.gather(-1, targets[:, None])).sum(-1)
        distance = above.to(surprise.dtype) / max(logits.shape[-1] - 1, 1)
        loss = ((1 + self.scale * distance) * surprise).mean()
        return Learned(loss, {"cross_entropy": surprise.mean(), "rank_distance": distance.mean()})
