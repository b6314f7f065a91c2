"""Learning to say the next token."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from minigpt.data.batch import Tokens
from minigpt.model import Output
from minigpt.registry import register
from minigpt.schema import NonNegativeFloat, options
from minigpt.training.tasks.base import Learned, Task, flat_logits


@register("task", "next_token", aliases=("cross_entropy",))
class NextToken(Task):
    """loss = -log p(target) + z_loss log(Z)^2, Z the sum of exp(logits).

    z_loss keeps logits from drifting, which matters in low precision: 1e-4 in PaLM, Chowdhery et al. 2022,
    arXiv:2204.02311.
    """

    @options
    class Config:
        z_loss: NonNegativeFloat = 0.0

    cases = [{"z_loss": 0.1}]

    def __init__(self, config: Config):
        self.z_loss = config.z_loss

    def __call__(self, output: Output, batch: Tokens, step: int) -> Learned:
        logits = flat_logits(output)
        loss = F.cross_entropy(logits, batch.targets.flatten())
        if not self.z_loss:
            return Learned(loss)
        z_loss = torch.logsumexp(logits, dim=-1).square().mean()
        return Learned(loss + self.z_loss * z_loss, {"z_loss": z_loss.detach()})
