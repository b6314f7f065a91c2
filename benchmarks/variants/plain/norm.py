"""Norms, as their formulas say."""

from __future__ import annotations

import torch
from torch import nn

from benchmarks.variants.plain import plain


def scaled(part, y):
    """Times the gain and plus the bias, where there are some."""
    y = y if part.gain is None else y * part.gain
    return y if getattr(part, "bias", None) is None else y + part.bias


@plain("norm", "identity")
def identity(part, x):
    return x


@plain("norm", "layernorm")
def layernorm(part, x):
    return nn.functional.layer_norm(x, x.shape[-1:], part.gain, part.bias, part.eps)


@plain("norm", "rmsnorm")
def rmsnorm(part, x):
    gain = 1 + part.gain if part.unit_offset else part.gain
    return nn.functional.rms_norm(x, x.shape[-1:], gain, part.eps)


@plain("norm", "prmsnorm")
def prmsnorm(part, x):
    return scaled(part, x / torch.sqrt(x[..., : part.used].pow(2).mean(-1, keepdim=True) + part.eps))


@plain("norm", "krmsnorm")
def krmsnorm(part, x):
    few = {"first": x[..., : part.k], "last": x[..., x.shape[-1] - part.k :]}.get(part.dims)
    few = x[..., part.chosen] if few is None else few
    if part.largest is not None:
        step = few.abs().max(-1, keepdim=True).values / part.largest
        few = few + ((few / step).round() * step - few).detach()
    return scaled(part, x / torch.sqrt(few.pow(2).mean(-1, keepdim=True) + part.eps))


def radius_of(part):
    return part.fixed if part.log_radius is None else part.log_radius.exp()


@plain("norm", "hyperspherenorm")
def hyperspherenorm(part, x):
    length = torch.sqrt(x.pow(2).sum(-1, keepdim=True) + x.shape[-1] * part.eps)
    return scaled(part, radius_of(part) * x / length)


@plain("norm", "capped_hyperspherenorm")
def capped_hyperspherenorm(part, x):
    radius, length = radius_of(part), x.norm(dim=-1, keepdim=True)
    return scaled(part, torch.where(length > radius, radius * x / length, x))


@plain("norm", "dyt")
def dyt(part, x):
    acts = {"tanh": nn.Tanh, "hardtanh": nn.Hardtanh, "softsign": nn.Softsign, "sigmoid": nn.Sigmoid}
    return scaled(part, acts[part.act]()(part.alpha * x))


@plain("norm", "derf")
def derf(part, x):
    return scaled(part, torch.erf(part.alpha * x + part.shift))


@plain("norm", "groupnorm")
def groupnorm(part, x):
    groups = x.reshape(*x.shape[:-1], part.groups, -1)
    centred = groups - groups.mean(-1, keepdim=True)
    normed = centred / torch.sqrt(centred.pow(2).mean(-1, keepdim=True) + part.eps)
    return scaled(part, normed.reshape(x.shape))


@plain("norm", "flashnorm")
def flashnorm(part, x):
    return x / torch.sqrt(x.pow(2).mean(-1, keepdim=True) + part.eps)
