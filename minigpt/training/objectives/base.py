"""The objective axis: what a training step makes smaller. Validation is always plain cross-entropy."""

from __future__ import annotations

from torch import Tensor


class Objective:
    """Built as ``cls(config)``. logits: (B, T, vocab_size), targets: (B, T) int64 -> their mean loss, a scalar."""

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        raise NotImplementedError
