"""Prodigy."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from minigpt.components.initialiser import Role
from minigpt.registry import register
from minigpt.schema import NonNegativeFloat, PositiveFloat, Probability, options
from minigpt.training.optimizers.base import Optimizer, decay_groups
from minigpt.training.optimizers.packaged import packaged


@register("optimizer", "prodigy")
class Prodigy(Optimizer):
    """p -= lr d (m / (sqrt(v) + eps) + weight_decay p): AdamW at the rate lr d, d an estimate of how far the weights
    have to go, which only rises.

    Mishchenko & Defazio 2023, arXiv:2306.06101. lr is a factor, to be left at 1; d0: where d starts. One wait for the
    device every step.
    """

    @options
    class Config:
        lr: PositiveFloat = 1.0
        beta1: Probability = 0.9
        beta2: Probability = 0.95
        d0: PositiveFloat = 1e-6
        eps: PositiveFloat = 1e-8
        weight_decay: NonNegativeFloat = 0.1

    cases = [{"lr": 0.1}, {"beta1": 0.5}, {"beta2": 0.5}, {"d0": 1e-4}, {"eps": 0.01}, {"weight_decay": 0.5}]

    def __init__(self, config: Config, parameters: Mapping[str, nn.Parameter], roles: Mapping[str, Role]):
        part = packaged(
            "Prodigy",
            decay_groups(parameters.items(), roles, config.weight_decay),
            lr=config.lr,
            betas=(config.beta1, config.beta2),
            d0=config.d0,
            eps=config.eps,
            bias_correction=True,
            safeguard_warmup=True,
        )
        super().__init__([part], parameters)
