"""Rounding to whole numbers of steps, each row of the last dimension on a grid of its own, and its gradient."""

from __future__ import annotations

import torch
from torch import Tensor

_LEAST = 1e-30  # a range below it counts as zero: its reciprocal would overflow

_ASIDE = 16
"""What has been rounded before often lies exactly between two steps, where the last bit of arithmetic, another in a
cached decode than in a full forward, would decide. By so many last bits smaller, it falls to one side."""


def symmetric(x: Tensor, bits: int) -> Tensor:
    """To -n .. n steps, n = 2^(bits-1) - 1, of which the row's largest magnitude takes n; the same shape and format."""
    return to_steps(x, 2 ** (bits - 1) - 1)


def to_steps(x: Tensor, most: float | Tensor) -> Tensor:
    """To whole steps, of which the row's largest magnitude takes ``most``."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))  # in fp16 the scale of a small row would overflow
    scale = most / wide.abs().amax(dim=-1, keepdim=True).clamp_min(_LEAST)
    return ((wide * _aside(scale)).round() / scale).to(x.dtype)


def affine(x: Tensor, bits: int) -> Tensor:
    """To 2^bits steps from the row's smallest to its largest value; zero lies in between and stays exactly zero."""
    most = 2**bits - 1
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    low = wide.amin(dim=-1, keepdim=True).clamp_max(0.0)
    high = wide.amax(dim=-1, keepdim=True).clamp_min(0.0)
    scale = most / (high - low).clamp_min(_LEAST)
    aside = _aside(scale)
    zero = (low * -aside).round()  # the code of 0
    return (((wide * aside).round() + zero).clamp(0, most).sub(zero) / scale).to(x.dtype)


def _aside(scale: Tensor) -> Tensor:
    return scale * (1 - _ASIDE * torch.finfo(scale.dtype).eps)


def straight_through(x: Tensor, rounded: Tensor) -> Tensor:
    """The rounded value going forward, the gradient of the unrounded going back."""
    return x + (rounded - x).detach()
