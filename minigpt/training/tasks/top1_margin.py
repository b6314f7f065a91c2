"""The target ahead of all others."""

from __future__ import annotations

import math

import torch.nn.functional as F

from minigpt.data.batch import Tokens
from minigpt.model import Output
from minigpt.registry import register
from minigpt.schema import NonNegativeFloat, PositiveFloat, options
from minigpt.training.tasks.base import Learned, Task, flat_logits


@register("task", "top1_margin")
class Top1Margin(Task):
    """loss = cross-entropy + weight max(0, margin - (z_target - max of the other z)), z the logits.

    The second term is the multiclass hinge of Crammer & Singer 2001: nothing once the target leads by the margin.
    """

    in_nats = False

    @options
    class Config:
        margin: PositiveFloat = 1.0
        weight: NonNegativeFloat = 0.1

    cases = [{"margin": 3.0}, {"weight": 1.0}]

    def __init__(self, config: Config):
        self.margin, self.weight = config.margin, config.weight

    def __call__(self, output: Output, batch: Tokens, step: int) -> Learned:
        logits, targets = flat_logits(output), batch.targets.flatten()[:, None]
        surprise = F.cross_entropy(logits, targets[:, 0])
        lead = logits.gather(-1, targets)[:, 0] - logits.scatter(-1, targets, -math.inf).amax(-1)  # (B T,)
        hinge = F.relu(self.margin - lead).mean()
        return Learned(surprise + self.weight * hinge, {"cross_entropy": surprise, "margin_loss": hinge})
