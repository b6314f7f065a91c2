"""Positions, as their formulas say."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from benchmarks.variants.plain import plain


@plain("position", "learned", method="embed")
def learned(part, call):
    return part.weight[call.span.positions]


@plain("position", "sinusoidal", method="embed")
def sinusoidal(part, call):
    t, i = call.span.positions[:, None], torch.arange(part.width)
    angle = t / part.theta ** ((i // 2 * 2).double() / part.width)
    return torch.where(i % 2 == 0, angle.sin(), angle.cos()).float()


@plain("position", "cyclic", method="embed")
def cyclic(part, call):
    t, first, added = call.span.positions, 0, 0
    for period in part.periods:
        added = added + part.weight[first + t % period]
        first += period
    return added


def turned(x, angle, r, size=1.0):
    """Pairs (i, i + r/2) of the first r dimensions, turned and multiplied; tables are of fp32."""
    cos, sin = (angle.cos() * size).float(), (angle.sin() * size).float()
    a, b, rest = x.split([r // 2, r // 2, x.shape[-1] - r], dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos, rest], dim=-1)


def frequencies(theta, r):
    return theta ** (-torch.arange(0, r, 2).double() / r)


@plain("position", "rope", method="rotate")
def rope(part, x, call, which):
    config, r = part.config, part.turned
    theta, size, factor = config.theta, 1.0, config.factor
    if config.scaling == "ntk":
        theta = theta * factor ** (r / (r - 2))
    frequency = frequencies(theta, r)
    if config.scaling == "linear":
        frequency = frequency / factor
    if config.scaling == "yarn":
        size = 0.1 * math.log(factor) + 1
        turns = [
            r * math.log(config.original_length / b / 2 / math.pi) / 2 / math.log(theta)
            for b in (config.beta_fast, config.beta_slow)
        ]
        low, high = max(math.floor(turns[0]), 0), min(math.ceil(turns[1]), r - 1)
        ramp = ((torch.arange(r // 2) - low) / (high - low)).clamp(0, 1)
        frequency = frequency * (1 - ramp) + frequency / factor * ramp
    return turned(x, call.span.positions[:, None] * frequency, r, size)


@plain("position", "rope_symmetric", method="rotate")
def rope_symmetric(part, x, call, which):
    return turned(x, 2 * math.pi * call.span.positions[:, None].double() / part.period, x.shape[-1])


@plain("position", "xpos", method="rotate")
def xpos(part, x, call, which):
    config, r, t = part.config, x.shape[-1], call.span.positions[:, None]
    z = (torch.arange(0, r, 2).double() / r + config.gamma) / (1 + config.gamma)
    size = z ** (t / config.scale_base)
    return turned(x, t * frequencies(config.theta, r), r, size if which == "query" else 1 / size)


def distances(query_position, key_position):
    return (query_position[:, None] - key_position[None, :]).clamp(min=0)


@plain("position", "alibi", method="score_bias")
def alibi(part, q, query_position, key_position, scores=None):
    return -part.slopes[:, None, None] * distances(query_position, key_position)


@plain("position", "t5_relative", method="score_bias")
def t5_relative(part, q, query_position, key_position, scores=None):
    distance, half = distances(query_position, key_position), len(part.weight) // 2
    steps = torch.log(distance.clamp(min=1) / half) / math.log(part.max_distance / half) * (len(part.weight) - half)
    far = (half + steps.long()).clamp(max=len(part.weight) - 1)
    return part.weight[torch.where(distance < half, distance, far)].permute(2, 0, 1)


@plain("position", "fire", method="score_bias")
def fire(part, q, query_position, key_position, scores=None):
    def log(x):
        return torch.log(part.c.abs() * x + 1)

    reach = torch.maximum(query_position, part.threshold.abs() * part.config.threshold_init)
    share = log(distances(query_position, key_position)) / (log(reach)[:, None] + 1e-6)
    hidden = F.relu(F.linear(share[..., None], part.up, part.up_bias))
    return F.linear(hidden, part.down, part.down_bias).permute(2, 0, 1)


@plain("position", "cope", method="score_bias")
def cope(part, q, query_position, key_position, scores=None):
    position = torch.sigmoid(scores).flip(-1).cumsum(-1).flip(-1).clamp(max=len(part.weight) - 1)
    at = q @ part.weight.T
    low, high = (at.gather(-1, index.long()) for index in (position.floor(), position.ceil()))
    share = position - position.floor()
    return high * share + low * (1 - share)
