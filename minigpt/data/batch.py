"""Batches: what one micro-batch holds, by what is learned from it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

B = TypeVar("B", bound="Batch")


@dataclass(frozen=True)
class Batch:
    """inputs: (B, T) int64, what the model reads. A kind of batch adds tensors that say what is learned from them."""

    inputs: Tensor

    @property
    def tokens(self) -> int:
        """Tokens the model reads: what a budget of tokens counts."""
        return self.inputs.numel()

    def to(self: B, device: torch.device) -> B:
        """The same batch on a device; to a GPU without waiting for it."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return dataclasses.replace(self, **{name: _moved(tensor, device) for name, tensor in fields.items()})


@dataclass(frozen=True)
class Tokens(Batch):
    """targets: (B, T) int64, the token after each of the inputs."""

    targets: Tensor


@dataclass(frozen=True)
class MaskedTokens(Tokens):
    """mask: (B, T) bool, which targets are learned: a prompt is read, its answer is learned."""

    mask: Tensor


def _moved(tensor: Tensor, device: torch.device) -> Tensor:
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
