"""AdEMAMix."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from minigpt.components.initialiser import Role
from minigpt.registry import register
from minigpt.schema import NonNegativeFloat, PositiveFloat, PositiveInt, Probability, UserError, options
from minigpt.training.optimizers.base import Optimizer, decay_groups
from minigpt.training.optimizers.packaged import packaged


@register("optimizer", "ademamix")
class AdEMAMix(Optimizer):
    """p -= lr ((m1 + alpha m2) / (sqrt(v) + eps) + weight_decay p): AdamW with a second, slow mean m2 of the gradient.

    Pagliardini et al. 2024, arXiv:2409.03137. beta3: of m2, which is not corrected for starting at zero; the
    paper's 0.9999 is for runs of 100,000 steps. mix_steps: over which alpha and beta3 rise to their values (the
    paper's T; None: there from the start).
    """

    moves_by_rate = True

    @options
    class Config:
        lr: PositiveFloat = 4e-3
        beta1: Probability = 0.9
        beta2: Probability = 0.95
        beta3: Probability = 0.999
        alpha: NonNegativeFloat = 5.0
        mix_steps: PositiveInt | None = None
        eps: PositiveFloat = 1e-8
        weight_decay: NonNegativeFloat = 0.1

        def __post_init__(self):
            if not self.alpha and (self.beta3 != 0.999 or self.mix_steps is not None):
                raise UserError("optimizer.beta3, mix_steps: do nothing with alpha=0. Take optimizer=adamw")
            if self.mix_steps is not None and not 0 < self.beta1 < self.beta3:
                raise UserError(
                    f"optimizer.mix_steps: beta3 rises from beta1, so beta1={self.beta1:g} has to lie between 0 and "
                    f"beta3={self.beta3:g}"
                )

    cases = [
        {"lr": 0.01},
        {"beta1": 0.5},
        {"beta2": 0.5},
        {"beta3": 0.9},
        {"alpha": 50.0},
        {"mix_steps": 20},
        {"eps": 0.01},
        {"weight_decay": 0.5},
    ]

    def __init__(self, config: Config, parameters: Mapping[str, nn.Parameter], roles: Mapping[str, Role]):
        part = packaged(
            "AdEMAMix",
            decay_groups(parameters.items(), roles, config.weight_decay),
            lr=config.lr,
            betas=(config.beta1, config.beta2, config.beta3),
            alpha=config.alpha,
            t_alpha_beta3=config.mix_steps,
            eps=config.eps,
            weight_decouple=True,
        )
        super().__init__([part], parameters)
