"""The curvature of the loss along every parameter, estimated for optimizers that ask for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from minigpt.device import Precision
from minigpt.model import Output


def gauss_newton(
    model: Callable[[Tensor], Output],
    tokens: Tensor,
    parameters: Sequence[Tensor],
    precision: Precision,
    scaler: torch.amp.GradScaler,
) -> list[Tensor]:
    """n g^2 for every parameter, g the gradient of the mean cross-entropy of n tokens that the model itself draws.

    Its expectation is the diagonal of the Gauss-Newton matrix: Gauss-Newton-Bartlett, arXiv:2305.14342. tokens: (B, T).
    Gradients that training has gathered are left alone. What overflows fp16 counts as no curvature.
    """
    with precision.autocast():
        logits = model(tokens).logits
    logits = logits.flatten(0, 1).float()  # (n, vocab_size)
    drawn = torch.multinomial(logits.detach().softmax(-1), 1).squeeze(-1)
    loss = scaler.scale(F.cross_entropy(logits, drawn))
    found = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
    factor = len(drawn) / scaler.get_scale() ** 2
    return [torch.nan_to_num(gradient.square() * factor, 0.0, 0.0, 0.0) for gradient in found]
