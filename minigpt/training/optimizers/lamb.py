"""LAMB."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from minigpt.components.initialiser import Role
from minigpt.registry import register
from minigpt.schema import NonNegativeFloat, PositiveFloat, Probability, options
from minigpt.training.optimizers.base import Optimizer, decay_groups
from minigpt.training.optimizers.packaged import packaged


@register("optimizer", "lamb")
class LAMB(Optimizer):
    """p -= lr min(|p|, 10) / |u| u, u = m / (sqrt(v) + eps) + weight_decay p: AdamW whose step is lr times as long as
    p.

    You et al. 2019, arXiv:1904.00962, for very large batches. Norms are of a whole parameter; m and v are Adam's, not
    corrected for starting at zero, as in the paper's third version: what that would lengthen, the norm shortens.
    """

    @options
    class Config:
        lr: PositiveFloat = 0.04
        beta1: Probability = 0.9
        beta2: Probability = 0.95
        eps: PositiveFloat = 1e-6
        weight_decay: NonNegativeFloat = 0.01

    cases = [{"lr": 0.1}, {"beta1": 0.5}, {"beta2": 0.5}, {"eps": 0.1}, {"weight_decay": 0.5}]

    def __init__(self, config: Config, parameters: Mapping[str, nn.Parameter], roles: Mapping[str, Role]):
        part = packaged(
            "Lamb",
            decay_groups(parameters.items(), roles, config.weight_decay),
            lr=config.lr,
            betas=(config.beta1, config.beta2),
            eps=config.eps,
            weight_decouple=False,  # inside u, whose length then counts it
            adam_debias=True,  # its name for: not dividing the step, norm and all, by 1 - beta1^t
        )
        super().__init__([part], parameters)
