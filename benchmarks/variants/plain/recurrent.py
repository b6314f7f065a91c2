"""Linear and recurrent attentions in their quadratic forms: every token looks at all before it."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from benchmarks.variants.plain import plain


def heads(x, n):
    return x.view(*x.shape[:2], n, -1).transpose(1, 2)  # (B, T, H d) -> (B, H, T, d)


def turned(part, q, k, call):
    if part.position is None:
        return q, k
    return part.position.rotate(q, call, "query"), part.position.rotate(k, call, "key")


def decays(log_decay):
    """(B, H, T) -> (B, H, T, T): what token s has become by token t."""
    passed = log_decay.cumsum(-1)
    future = torch.ones(passed.shape[-1], passed.shape[-1], dtype=torch.bool).triu(1)
    return (passed[..., :, None] - passed[..., None, :]).masked_fill(future, -math.inf).exp()


def read_out(part, y, x):
    y = part.norm(y.transpose(1, 2)).flatten(2)
    return part.o(y if part.g is None else y * part.activation(part.g(x)))


@plain("attention", "linear")
def linear(part, x, call, state=None):
    maps = {"elu1": lambda z: F.elu(z) + 1, "relu": F.relu, "softplus": F.softplus, "softmax": lambda z: z.softmax(-1)}
    q, k, v = (heads(m(x), part.n_head) for m in (part.q, part.k, part.v))
    q, k = maps[part.feature_map](q), maps[part.feature_map](k)
    normaliser = (q @ k.mT).tril().sum(-1, keepdim=True).clamp_min(1e-6)
    q, k = turned(part, q, k, call)
    return part.o(((q @ k.mT).tril() @ v / normaliser).transpose(1, 2).flatten(2))


@plain("attention", "retention")
def retention(part, x, call, state=None):
    q, k, v = (heads(m(x), part.n_head) for m in (part.q, part.k, part.v))
    q, k = turned(part, q, k, call)
    learned = part.decay_logit
    gamma = 1 - 2.0 ** (-5 - torch.arange(part.n_head)) if learned is None else torch.sigmoid(learned)
    log_decay = gamma.to(x.dtype).log()[:, None].expand(-1, x.shape[1])
    y = (q @ k.mT / math.sqrt(q.shape[-1]) * decays(log_decay)) @ v
    return read_out(part, y, x)


@plain("attention", "gated_linear")
def gated_linear(part, x, call, state=None):
    """One product of scaled queries and keys, which a text that forgets much and often would overflow."""
    q, k, v = (heads(m(x), part.n_head) for m in (part.q, part.k, part.v))
    q, k = turned(part, q, k, call)
    log_decay = F.logsigmoid(heads(part.decay_up(part.decay_down(x)), part.n_head)) / part.temperature
    passed = log_decay.clamp_min(-2).cumsum(2)
    y = ((q * passed.exp()) @ (k * (-passed).exp()).mT).tril() @ v / math.sqrt(q.shape[-1])
    return read_out(part, y, x)


@plain("attention", "delta")
def delta(part, x, call, state=None):
    mixed = torch.cat([part.q(x), part.k(x), part.v(x)], -1)
    q, k, v = (heads(each, part.n_head) for each in part.conv_activation(convolved(part.conv, mixed)).chunk(3, -1))
    q, k = (each / (each.square().sum(-1, keepdim=True) + 1e-6).sqrt() for each in turned(part, q, k, call))
    beta = torch.sigmoid(part.beta(x)).transpose(1, 2)[..., None]  # (B, H, T, 1)
    scores, overlap = (q @ k.mT).tril() / math.sqrt(q.shape[-1]), (k @ k.mT).tril(-1) * beta
    if part.decay is not None:
        rates = part.log_rate.exp() * F.softplus(part.decay(x) + part.step_bias)
        ratios = decays(-rates.transpose(1, 2))
        scores, overlap = scores * ratios, overlap * ratios
    moved = torch.linalg.solve_triangular(overlap, v * beta, upper=False, unitriangular=True)
    return read_out(part, scores @ moved, x)


@plain("attention", "ssm")
def ssm(part, x, call, state=None):
    return part.o(state_space(part.heads, x, call))


def state_space(part, u, call):
    inner, n = part.inner, part.state_dim
    z, mixed, step = part.project(u).split([inner, inner + 2 * n, part.heads], -1)
    x, b, c = part.activation(convolved(part.conv, mixed)).split([inner, n, n], -1)
    c, b = turned(part, c[:, None], b[:, None], call)
    x, step = heads(x, part.heads), F.softplus(step + part.step_bias).transpose(1, 2)
    weights = c @ b.mT * decays(-part.log_rate.exp()[:, None] * step)  # (B, H, T, T)
    y = weights @ (x * step[..., None]) + part.skip[:, None, None] * x
    return part.norm(y.transpose(1, 2).flatten(2) * part.gate(z))


def convolved(conv, x):
    kernel = conv.weight.shape[1]
    x = F.conv1d(x.transpose(1, 2), conv.weight[:, None], conv.bias, padding=kernel - 1, groups=x.shape[-1])
    return x[..., : x.shape[-1] - kernel + 1].transpose(1, 2)


@plain("attention", "latent_triadic")
def latent_triadic(part, x, call, state=None):
    q, k, v = (heads(m(x), part.n_head) for m in (part.q, part.k, part.v))
    asked = (q @ part.latents.mT / math.sqrt(q.shape[-1])).softmax(-1)  # (B, H, T, L)
    latents, count = part.latents[:, None], torch.arange(1, x.shape[1] + 1)[:, None]
    modulate = MODULATIONS[part.modulation]
    for _ in range(part.loops):
        k_mean, v_mean, q_mean = k.cumsum(2) / count, v.cumsum(2) / count, latents.mean(-2)
        latents = modulate(latents, (k_mean + v_mean)[..., None, :])  # (B, H, T, L, d)
        k, v = modulate(k, q_mean + v_mean), modulate(v, q_mean + k_mean)
    weights = F.elu((latents * k[..., None, :]).sum(-1) / math.sqrt(q.shape[-1])) + 1  # (B, H, T, L)
    means = (weights[..., None] * v[..., None, :]).cumsum(2) / weights.cumsum(2)[..., None]
    return part.o((asked[..., None] * means).sum(-2).transpose(1, 2).flatten(2))


MODULATIONS = {
    "cooperative": lambda r, c: F.relu6(r**2 + 2 * r + c * (1 + r.abs())),
    "tanh": lambda r, c: r * (1 + torch.tanh(r * c)),
    "additive": lambda r, c: r + c,
}


@plain("attention", "hybrid_heads")
def hybrid_heads(part, x, call, state=None):
    q, k, v = (heads(m(x), part.n_head) for m in (part.q, part.k, part.v))
    index = torch.arange(x.shape[1])
    apart = index[:, None] - index
    seen = (apart >= 0) & (apart < (part.window or x.shape[1]))
    bias = 0.0
    if part.position is not None and "rotary" in part.position.serves:
        q, k = turned(part, q, k, call)
    elif part.position is not None:
        bias = part.position.score_bias(q, index, index)
    scores = (q @ k.mT / math.sqrt(q.shape[-1]) + bias).masked_fill(~seen, -math.inf)
    found = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
    return part.o(torch.cat([part.norm(found), state_space(part.ssm, x, call)], -1))
