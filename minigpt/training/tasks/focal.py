"""Less weight on what is known already."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from minigpt.data.batch import Tokens
from minigpt.model import Output
from minigpt.registry import register
from minigpt.schema import NonNegativeFloat, options
from minigpt.training.tasks.base import Learned, Task, log_probabilities

_LEAST = 1e-7  # of 1 - p: the slope of (1 - p)^gamma at 0 is infinite for gamma below 1


@register("task", "focal")
class Focal(Task):
    """loss = -(1 - p)^gamma log p, p the probability of the target: the surer the model, the less a token counts.

    Lin et al. 2017, arXiv:1708.02002. gamma=0 is cross-entropy.
    """

    @options
    class Config:
        gamma: NonNegativeFloat = 2.0

    cases = [{"gamma": 0.5}]

    def __init__(self, config: Config):
        self.gamma = config.gamma

    def __call__(self, output: Output, batch: Tokens, step: int) -> Learned:
        surprise = F.nll_loss(log_probabilities(output), batch.targets.flatten(), reduction="none")  # (B T,)
        unsure = (-torch.expm1(-surprise)).clamp_min(_LEAST)  # 1 - p, exact near 0
        return Learned((unsure**self.gamma * surprise).mean(), {"cross_entropy": surprise.mean()})
