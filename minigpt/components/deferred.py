"""A division that waits for the product behind it: what a norm may hand to linear maps in place of a tensor."""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor


class Deferred(NamedTuple):
    """x: (..., n), rows as they are. scale: (..., 1), what each is to be multiplied with. Their product is meant.

    Only what promises to read its input through linear maps alone gets one (``input_maps``); see
    :func:`minigpt.model.deferring.join_norms`.
    """

    x: Tensor
    scale: Tensor


def product(x: Tensor | Deferred, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x W^T + b; the scale of a row that waits for it comes between the two."""
    if not isinstance(x, Deferred):
        return F.linear(x, weight, bias)
    y = F.linear(x.x, weight)
    y = y * x.scale.to(y.dtype)
    return y if bias is None else y + bias.to(y.dtype)
