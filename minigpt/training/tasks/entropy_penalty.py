"""A say in how sure the model is."""

from __future__ import annotations

from typing import Annotated

import torch.nn.functional as F

from minigpt.data.batch import Tokens
from minigpt.model import Output
from minigpt.registry import register
from minigpt.schema import Range, options
from minigpt.training.tasks.base import Learned, Task, log_probabilities


@register("task", "entropy_penalty")
class EntropyPenalty(Task):
    """loss = cross-entropy + weight H, H the entropy of what the model predicts, in nats.

    A positive weight makes predictions sharper; a negative one is the confidence penalty of Pereyra et al. 2017,
    arXiv:1701.06548, which keeps them from it.
    """

    @options
    class Config:
        weight: Annotated[float, Range(ge=-100, le=100)] = 0.01

    cases = [{"weight": -0.5}]

    def __init__(self, config: Config):
        self.weight = config.weight

    def __call__(self, output: Output, batch: Tokens, step: int) -> Learned:
        log_p = log_probabilities(output)
        surprise = F.nll_loss(log_p, batch.targets.flatten())
        entropy = -(log_p.exp() * log_p).sum(-1).mean()
        return Learned(surprise + self.weight * entropy, {"cross_entropy": surprise, "entropy": entropy})
