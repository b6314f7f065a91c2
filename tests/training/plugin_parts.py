"""Parts that ask something of the loop that none of the project's does."""

from __future__ import annotations

import copy

import torch

from minigpt.components.mlp.glu import GLU
from minigpt.components.norm.rmsnorm import RMSNorm
from minigpt.registry import register
from minigpt.schema import Probability, options
from minigpt.training.optimizers.adamw import AdamW
from minigpt.training.optimizers.base import Optimizer


@register("norm", "frozen_rmsnorm")
class FrozenRMSNorm(RMSNorm):
    """A norm whose gain is not trained."""

    def __init__(self, *args):
        super().__init__(*args)
        self.requires_grad_(False)


@register("mlp", "frozen_glu")
class FrozenGLU(GLU):
    """An MLP that stays as it starts."""

    def __init__(self, *args):
        super().__init__(*args)
        self.requires_grad_(False)


@register("optimizer", "averaged")
class Averaged(AdamW):
    """AdamW that answers with the running mean of its weights: eval() puts the mean in, train() takes it out again."""

    @options
    class Config(AdamW.Config):
        decay: Probability = 0.5

    def __init__(self, config, parameters, roles):
        super().__init__(config, parameters, roles)
        self.decay = config.decay
        self.weights = list(parameters.values())
        self.others = [p.detach().clone() for p in self.weights]  # the mean while training, the trained ones otherwise
        self.training = True

    def step(self, scaler):
        super().step(scaler)
        for mean, weight in zip(self.others, self.weights, strict=True):
            mean.lerp_(weight.detach(), 1 - self.decay)

    def train(self):
        if not self.training:
            self.swap()

    def eval(self):
        if self.training:
            self.swap()

    @torch.no_grad()
    def swap(self):
        self.training = not self.training
        for other, weight in zip(self.others, self.weights, strict=True):
            kept = weight.clone()
            weight.copy_(other)
            other.copy_(kept)

    def state_dict(self):
        return [*super().state_dict(), {"others": copy.deepcopy(self.others), "training": self.training}]

    def mismatch(self, state):
        return super().mismatch(state[:-1])

    def load_state_dict(self, state):
        *parts, own = state
        Optimizer.load_state_dict(self, parts)
        self.others, self.training = own["others"], own["training"]
