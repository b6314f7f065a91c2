"""Softmax attentions, as their formulas say: every score is there, and every head has keys and values of its own."""

from __future__ import annotations

import math

import torch

from benchmarks.variants.plain import plain


def heads(x, width):
    batch, tokens, channels = x.shape
    return x.view(batch, tokens, channels // width, width).transpose(1, 2)


def joined(y):
    batch, n_head, tokens, width = y.shape
    return y.transpose(1, 2).reshape(batch, tokens, n_head * width)


def turned(part, q, k, call):
    if part.position is None or "rotary" not in part.position.serves:
        return q, k
    return part.position.rotate(q, call, "query"), part.position.rotate(k, call, "key")


def of_each_query_head(x, n_head):
    return x[:, [h * x.shape[1] // n_head for h in range(n_head)]]


def scores_of(part, q, k, scale, softcap=None, window=None):
    """Of each query and key, -inf for those it may not see."""
    tokens = q.shape[2]
    place = torch.arange(tokens)
    scores = q @ k.transpose(2, 3) * scale
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    hidden = place[None, :] > place[:, None]
    if window is not None:
        hidden = hidden | (place[None, :] <= place[:, None] - window)
    if part.position is None or "score" not in part.position.serves:
        return scores.masked_fill(hidden, -math.inf)
    return (scores + part.position.score_bias(q, place, place)).masked_fill(hidden, -math.inf)


def mixed(part, q, k, v, scale, **options):
    weights = part.softmax(scores_of(part, q, k, scale, **options))
    return torch.dropout(weights, part.dropout, part.training) @ v


@plain("attention", "causal")
def causal(part, x, call, state=None):
    width, n_head = part.head_dim, part.n_head
    q, k, v = part.q(x), part.k(x), heads(part.v(x), width)
    if part.q_norm is not None and part.normed_together:
        q, k = part.q_norm(q), part.k_norm(k)
    q, k = heads(q, width), heads(k, width)
    if part.q_norm is not None and not part.normed_together:
        q, k = part.q_norm(q), part.k_norm(k)
    if part.v_norm is not None:
        v = part.v_norm(v)
    q, k = turned(part, q, k, call)
    k, v = of_each_query_head(k, n_head), of_each_query_head(v, n_head)
    scores = scores_of(part, q, k, part.scale, part.softcap, part.window)
    if part.sinks is None:
        weights = part.softmax(scores)
    else:
        sink = part.sinks.view(1, n_head, 1, 1).expand(len(x), n_head, x.shape[1], 1)
        weights = part.softmax(torch.cat([scores, sink], dim=-1))[:, :, :, :-1]
    y = torch.dropout(weights, part.dropout, part.training) @ v
    if part.gate is not None:
        y = y * torch.sigmoid(heads(part.gate(x), part.gate_width))
    return part.o(joined(y))


@plain("attention", "identity")
def identity(part, x, call, state=None):
    return x


@plain("attention", "mla")
def mla(part, x, call, state=None):
    asked = x if part.q_down is None else part.q_norm(part.q_down(x))
    q, q_rope = heads(part.q(asked), part.query_dim).split([part.head_dim, part.rope_dim], dim=-1)
    latent = part.kv_norm(part.kv_down(x))
    k, v = heads(part.k_up(latent), part.head_dim), heads(part.v_up(latent), part.head_dim)
    q_rope, k_rope = turned(part, q_rope, heads(part.k_rope(x), part.rope_dim), call)
    k_rope = k_rope.expand(-1, part.n_head, -1, -1)
    scale = 1 / math.sqrt(part.head_dim + part.rope_dim)
    return part.o(joined(mixed(part, torch.cat([q, q_rope], -1), torch.cat([k, k_rope], -1), v, scale)))


@plain("attention", "infinite")
def infinite(part, x, call, state=None):
    q, k, v = heads(part.q(x), part.qk_dim), heads(part.k(x), part.qk_dim), heads(part.v(x), part.v_dim)
    scale = 1 / math.sqrt(part.qk_dim)
    if part.qk_l2:
        q, k, scale = q / q.norm(dim=-1, keepdim=True), k / k.norm(dim=-1, keepdim=True), math.sqrt(part.qk_dim)
    if part.v_l2:
        v = v / v.norm(dim=-1, keepdim=True)
    q, k = turned(part, q, k, call)
    y = mixed(part, q, of_each_query_head(k, part.n_head), of_each_query_head(v, part.n_head), scale)
    return part.o(y.sum(1) if part.summed else joined(y))


@plain("attention", "differential")
def differential(part, x, call, state=None):
    width = part.head_dim // 2
    q, k = turned(part, heads(part.q(x), width), heads(part.k(x), width), call)
    v = heads(part.v(x), part.head_dim)
    first = mixed(part, q[:, 0::2], k[:, 0::2], v, 1 / math.sqrt(width))
    second = mixed(part, q[:, 1::2], k[:, 1::2], v, 1 / math.sqrt(width))
    (a1, b1), (a2, b2) = part.directions
    start = part.lambda_start
    y = first - (torch.exp(a1 @ b1) - torch.exp(a2 @ b2) + start) * second
    return part.o(joined((1 - start) * part.head_norm(y)))


class Rounded(torch.autograd.Function):
    """To multiples of a unit; the gradient passes."""

    @staticmethod
    def forward(ctx, x, unit):
        return torch.round(x / unit) * unit

    @staticmethod
    def backward(ctx, gradient):
        return gradient, None


@plain("attention", "asic")
def asic(part, x, call, state=None):
    q, k, v = (heads(each(x), part.head_dim) for each in (part.q, part.k, part.v))
    q, k = turned(part, q, k, call)
    scores = scores_of(part, q, k, 1 / math.sqrt(part.head_dim))
    numerator = torch.exp(scores - scores.max(dim=-1, keepdim=True).values.detach())
    if part.numerator_bits is not None:
        numerator = Rounded.apply(numerator, 1 / (2**part.numerator_bits - 1))
    denominator = numerator.sum(dim=-1, keepdim=True)
    if part.denominator_bits is not None:
        leading = torch.floor(torch.log2(denominator.detach()))
        denominator = Rounded.apply(denominator, 2.0 ** (leading - part.denominator_bits + 1))
    return part.o(joined(torch.dropout(numerator / denominator, part.dropout, part.training) @ v))
