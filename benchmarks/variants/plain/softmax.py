"""Softmaxes, as their formulas say."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from benchmarks.variants.plain import plain


@plain("softmax", "softmax")
def softmax(part, scores):
    return torch.softmax(scores, dim=-1)


@plain("softmax", "consmax")
def consmax(part, scores):
    clamped = scores if part.clamp is None else torch.clamp(scores, max=part.clamp)
    return torch.exp((clamped - part.beta) * part.log_base) / part.log_gamma.exp()


@plain("softmax", "softermax")
def softermax(part, scores):
    weights = torch.exp2(scores - scores.max(dim=-1, keepdim=True).values)
    return weights / weights.sum(dim=-1, keepdim=True)


@plain("softmax", "softmax1")
def softmax1(part, scores):
    largest = torch.maximum(scores.max(dim=-1, keepdim=True).values, part.c)
    powers = torch.exp(scores - largest)
    return powers / (torch.exp(part.c - largest) + powers.sum(dim=-1, keepdim=True))


def scaled(part, weights, scores):
    weights = weights / part.divisor
    return weights / (scores > -torch.inf).sum(dim=-1, keepdim=True) if part.length_scale else weights


@plain("softmax", "relumax")
def relumax(part, scores):
    return scaled(part, torch.relu(scores), scores)


@plain("softmax", "relu2max")
def relu2max(part, scores):
    return scaled(part, torch.relu(scores) ** 2, scores)


@plain("softmax", "sigmoidmax")
def sigmoidmax(part, scores):
    return scaled(part, torch.sigmoid(scores + part.bias), scores)


@plain("softmax", "softplusmax")
def softplusmax(part, scores):
    return F.softplus(scores) / part.divisor


@plain("softmax", "softplus2max")
def softplus2max(part, scores):
    return F.softplus(scores) ** 2 / part.divisor


@plain("softmax", "squareplusmax")
def squareplusmax(part, scores):
    masked = scores == -torch.inf
    s = torch.where(masked, 0, scores)
    return torch.where(masked, 0, (s + torch.sqrt(s**2 + 4 * math.log(2) ** 2)) / 2 / part.divisor)


@plain("softmax", "softshrinkmax")
def softshrinkmax(part, scores):
    return F.softshrink(torch.where(scores == -torch.inf, 0, scores), part.threshold) / part.divisor


@plain("softmax", "gelumax")
def gelumax(part, scores):
    return F.gelu(torch.where(scores == -torch.inf, 0, scores)) / part.divisor


@plain("softmax", "polymax")
def polymax(part, scores):
    left, right = scores.clamp(part.x_intercept, 0), scores.clamp_min(0)  # a branch not taken must be finite
    line = part.y_intercept * (1 - left / part.x_intercept)
    return scaled(part, torch.where(scores < 0, line, right**part.power + part.y_intercept), scores)


@plain("softmax", "vpolymax")
def vpolymax(part, scores):
    left, right = scores.clamp(part.x_intercept, 0), scores.clamp_min(0)
    line = part.y_intercept * (1 + left / part.x_intercept)
    weights = torch.where(scores < 0, line, right**part.power + part.y_intercept)
    return scaled(part, torch.where(scores < part.x_intercept, 0, weights), scores)


@plain("softmax", "exppolymax")
def exppolymax(part, scores):
    base = math.exp(part.log_base)
    below, above = base ** scores.clamp_max(0), (scores.clamp_min(0) + part.shift) ** part.power
    return torch.where(scores < 0, below, above + 1 - part.shift**part.power) / part.divisor


@plain("softmax", "strongermax")
def strongermax(part, scores):
    config = part.config
    masked = scores == -torch.inf
    temperature = config.temperature if part.log_temperature is None else part.log_temperature.exp()
    obo = config.obo if part.log_obo is None else part.log_obo.exp()
    exponent = torch.where(masked, 0, scores) / temperature * math.log(config.strength)
    exponent = torch.where(masked, -torch.inf, exponent)
    largest = exponent.max(dim=-1, keepdim=True).values if config.use_xmax else torch.zeros_like(exponent[..., :1])
    powers = torch.exp(exponent - largest)
    if config.sum_to_one:
        powers = powers / (obo * torch.exp(-largest) + powers.sum(dim=-1, keepdim=True))
    return powers / config.divisor


@plain("softmax", "sigsoftmax")
def sigsoftmax(part, scores):
    exponent = scores * part.log_base
    powers = torch.exp(exponent - exponent.max(dim=-1, keepdim=True).values) * torch.sigmoid(scores)
    return powers / powers.sum(dim=-1, keepdim=True)


@plain("softmax", "saturating_consmax")
def saturating_consmax(part, scores):
    exponent = torch.clamp(scores - part.beta, max=part.saturation)
    return torch.exp(exponent * part.log_base) / part.log_gamma.exp()


@plain("softmax", "consmax_quantized")
def consmax_quantized(part, scores):
    def rounded(x, step, low, high):
        return x + (torch.clamp(torch.round(x / step) * step, low, high) - x).detach()

    beta = rounded(part.beta, part.beta_step, -8, 8 - part.beta_step)
    gamma = rounded(part.log_gamma.exp(), part.gamma_step, part.gamma_step, 256 - part.gamma_step)
    return torch.exp(scores - beta) / gamma


@plain("softmax", "argmax_ste")
def argmax_ste(part, scores):
    weights = torch.softmax(scores, dim=-1)
    return F.one_hot(scores.argmax(dim=-1), scores.shape[-1]).to(scores.dtype) + weights - weights.detach()


@plain("softmax", "sparsemax")
def sparsemax(part, scores):
    s = torch.clamp(scores - scores.max(dim=-1, keepdim=True).values, min=-1)
    ordered = s.sort(dim=-1, descending=True).values
    k = torch.arange(1, s.shape[-1] + 1)
    taus = (ordered.cumsum(dim=-1) - 1) / k
    count = (ordered > taus).sum(dim=-1, keepdim=True)
    return torch.relu(s - taus.gather(-1, count - 1))


@plain("softmax", "entmax15")
def entmax15(part, scores):
    s = torch.clamp((scores - scores.max(dim=-1, keepdim=True).values) / 2, min=-1)
    ordered = s.sort(dim=-1, descending=True).values
    k = torch.arange(1, s.shape[-1] + 1)
    mean, square = ordered.cumsum(dim=-1) / k, (ordered**2).cumsum(dim=-1) / k
    taus = mean - torch.sqrt(torch.clamp(1 / k - (square - mean**2), min=1e-30))
    count = (ordered > taus).sum(dim=-1, keepdim=True)
    return torch.relu(s - taus.gather(-1, count - 1)) ** 2


@plain("softmax", "pfla")
def pfla(part, scores):
    knots, heights = part.knots, part.log_heights.exp()
    gaps = knots[1:] - knots[:-1]
    clamped = scores.clamp(knots[0].item(), knots[-1].item())
    i = torch.searchsorted(knots[1:-1].contiguous(), clamped.detach())
    u = (clamped - knots[i]) / gaps[i]
    weights = (1 - u) * heights[i] + u * heights[i + 1]
    if part.config.mode == "quadratic":
        slopes = (heights[1:] - heights[:-1]) / gaps
        at_knot = (slopes[:-1] * gaps[1:] + slopes[1:] * gaps[:-1]) / (gaps[1:] + gaps[:-1])
        bent = torch.clamp(heights[1:-1] + at_knot * gaps[1:] / 2, min=0)
        middle = torch.cat([(heights[:1] + heights[1:2]) / 2, bent])
        weights = (1 - u) ** 2 * heights[i] + 2 * u * (1 - u) * middle[i] + u**2 * heights[i + 1]
    weights = torch.where(scores == -torch.inf, 0, weights)
    return weights / (weights.sum(dim=-1, keepdim=True) if part.log_gamma is None else part.log_gamma.exp())
