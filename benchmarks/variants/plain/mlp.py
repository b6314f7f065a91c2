"""MLPs, as their formulas say."""

from __future__ import annotations

import torch
from torch.nn.functional import linear, softplus

from benchmarks.variants.plain import plain


def mapped(part, x):
    return linear(x, part.weight, part.bias)


@plain("mlp", "mlp")
def mlp(part, x, call):
    return mapped(part.down, part.activation(mapped(part.up, x)))


@plain("mlp", "glu")
def glu(part, x, call):
    return mapped(part.down, part.activation(mapped(part.gate, x)) * mapped(part.up, x))


@plain("mlp", "identity")
def identity(part, x, call):
    return torch.zeros_like(x) if part.silent else x


@plain("mlp", "dual_path")
def dual_path(part, x, call):
    h = mapped(part.gate if part.gated else part.up, x)
    positive = part.activation(h - part.offset)
    negative = part.activation(-(h + part.offset))
    if part.gated:
        positive, negative = positive * mapped(part.up, x), negative * mapped(part.up, x)
    first, second = part.down.weight.chunk(2, dim=1)
    return linear(positive, first, part.down.bias) + linear(negative, second)  # the sign is in the matrix


@plain("mlp", "kan")
def kan(part, x, call):
    hidden = mapped(part.up, edges(part, x, part.base_in))
    return mapped(part.down, edges(part, hidden, part.base_hidden))


def edges(part, x, base):
    inside = torch.tanh(x) if part.normalise == "tanh" else x / x.abs().amax(-1, keepdim=True)
    functions = [splines(part, inside)] if part.grid else polynomials(part, inside)
    return torch.cat(functions if base is None else [*functions, base(x)], dim=-1)


def polynomials(part, x):
    found = [torch.ones_like(x), x]
    for n in range(1, part.degree):
        found.append(((2 * n + 1) * x * found[n] - n * found[n - 1]) / (n + 1))
    return found[1:]


def splines(part, x):
    degree, step = part.degree, 2 / part.grid
    knots = -1 + step * torch.arange(-degree, part.grid + degree + 1, dtype=x.dtype)
    x = x[..., None]
    found = ((x >= knots[:-1]) & (x < knots[1:])).to(x.dtype)
    for d in range(1, degree + 1):
        left = (x - knots[: -d - 1]) / (knots[d:-1] - knots[: -d - 1])
        right = (knots[d + 1 :] - x) / (knots[d + 1 :] - knots[1:-d])
        found = left * found[..., :-1] + right * found[..., 1:]
    return found.flatten(-2)


@plain("mlp", "moe")
def moe(part, x, call):
    config, rows = part.config, x.flatten(0, 1)
    logits = linear(rows, part.router.weight)
    if config.router == "noisy" and part.training:
        logits = logits + torch.randn_like(logits) * softplus(linear(rows, part.noise.weight))
    scores = torch.sigmoid(logits) if config.router == "sigmoid" else torch.softmax(logits, dim=-1)
    weights, chosen = scores.topk(config.top_k, dim=-1)
    if config.normalise:
        weights = weights / weights.sum(-1, keepdim=True)
    if part.training:
        load = torch.stack([(chosen == e).float().mean() for e in range(config.experts)])
        share = (scores / scores.sum(-1, keepdim=True)).mean(0)
        call.record("balance", loss=config.experts * (load * share).sum(), weight=config.balance)
        call.record("router_z", loss=torch.logsumexp(logits, -1).square().mean(), weight=config.z_loss)
    y = torch.zeros_like(rows)
    for e, expert in enumerate(part.experts):
        token, place = torch.where(chosen == e)
        y = y.index_add(0, token, weights[token, place, None] * expert_of(expert, rows[token]))
    y = y.view_as(x)
    return y if part.shared is None else y + expert_of(part.shared, x)


def expert_of(part, x):
    return (glu if part.name == "glu" else mlp)(part, x, None)
