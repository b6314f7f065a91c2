"""Targets that are not quite sure."""

from __future__ import annotations

import torch.nn.functional as F

from minigpt.data.batch import Tokens
from minigpt.model import Output
from minigpt.registry import register
from minigpt.schema import Probability, options
from minigpt.training.tasks.base import Learned, Task, log_probabilities


@register("task", "label_smoothing")
class LabelSmoothing(Task):
    """loss = -(1 - e) log p(target) - e mean of log p over the vocabulary, e = ``smoothing``.

    Cross-entropy with a target of 1 - e of its own plus e spread evenly. Szegedy et al. 2015, arXiv:1512.00567.
    """

    @options
    class Config:
        smoothing: Probability = 0.1

    cases = [{"smoothing": 0.5}]

    def __init__(self, config: Config):
        self.smoothing = config.smoothing

    def __call__(self, output: Output, batch: Tokens, step: int) -> Learned:
        log_p, targets = log_probabilities(output), batch.targets.flatten()
        surprise = F.nll_loss(log_p, targets)
        loss = (1 - self.smoothing) * surprise - self.smoothing * log_p.mean()
        return Learned(loss, {"cross_entropy": surprise})
