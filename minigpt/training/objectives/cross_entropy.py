"""Cross-entropy of the next token."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from minigpt.registry import register
from minigpt.schema import NonNegativeFloat, options
from minigpt.training.objectives.base import Objective


@register("objective", "cross_entropy")
class CrossEntropy(Objective):
    """-log p(target) + z_loss log(Z)^2, Z the sum of exp(logits).

    z_loss keeps logits from drifting, which matters in low precision: 1e-4 in PaLM, Chowdhery et al. 2022,
    arXiv:2204.02311.
    """

    @options
    class Config:
        z_loss: NonNegativeFloat = 0.0

    def __init__(self, config: Config):
        self.z_loss = config.z_loss

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        logits = logits.flatten(0, 1).float()  # (B T, vocab_size); the sum of exponentials wants fp32
        loss = F.cross_entropy(logits, targets.flatten())
        if self.z_loss:
            loss = loss + self.z_loss * torch.logsumexp(logits, dim=-1).square().mean()
        return loss
