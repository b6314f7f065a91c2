"""Residuals, as their formulas say."""

from __future__ import annotations

import torch

from benchmarks.variants.plain import plain


@plain("residual", "add", "value_residual", method="write")
def add(part, stream, update):
    return stream + update


@plain("residual", "rezero", method="write")
def rezero(part, stream, update):
    return stream + part.scale * update


@plain("residual", "layerscale", method="write")
def layerscale(part, stream, update):
    return stream + part.scale * update


@plain("residual", "lerp", method="write")
def lerp(part, stream, update):
    share = part.share_init if part.share is None else part.share
    return (1 - share) * stream + share * update


@plain("residual", "slerp", method="write")
def slerp(part, stream, update):
    share = part.share_init if part.share is None else part.share
    x = stream / (stream.square().sum(-1, keepdim=True) + 1e-6 * stream.shape[-1]).sqrt()
    y = update / (update.square().sum(-1, keepdim=True) + 1e-6 * stream.shape[-1]).sqrt()
    angle = torch.arccos((x * y).sum(-1, keepdim=True).clamp(-1 + 1e-6, 1 - 1e-6))
    return (torch.sin((1 - share) * angle) * x + torch.sin(share * angle) * y) / torch.sin(angle)


@plain("residual", "confidence", method="write")
def confidence(part, stream, update):
    return stream + ((update * part.weight).sum(-1, keepdim=True) + part.constant) * update


@plain("residual", "depth_attention", method="read")
def read_depths(part, stream):
    if part.query is None:
        return stream[:, :, 0]
    keys = stream / (stream.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    weights = torch.softmax(keys @ part.query, dim=-1)
    return torch.einsum("btn,btnc->btc", weights, stream)


@plain("residual", "depth_attention", method="write")
def write_depth(part, stream, update):
    return torch.cat([stream, update.unsqueeze(2)], dim=2)


def normed(stream):
    return stream / (stream.square().mean(-1, keepdim=True) + 1e-6).sqrt()


@plain("residual", "hyper_connections", method="read")
def read_streams(part, stream):
    picked = part.a[:, 0].expand(stream.shape[:-1])  # (B, T, n)
    if part.a_weight is not None:
        picked = picked + part.a_scale * torch.tanh(normed(stream) @ part.a_weight[0])
    return torch.einsum("btn,btnc->btc", picked, stream)


@plain("residual", "hyper_connections", method="write")
def write_streams(part, stream, update):
    kept, written = part.a[:, 1:].expand(*stream.shape[:-1], -1), part.b[:, 0].expand(stream.shape[:-1])
    if part.a_weight is not None:
        kept = kept + part.a_scale * torch.tanh(normed(stream) @ part.a_weight[1:].T)  # (B, T, n, n)
        written = written + part.b_scale * torch.tanh(normed(stream) @ part.b_weight[0])
    return torch.einsum("btnm,btnc->btmc", kept, stream) + torch.einsum("btn,btc->btnc", written, update)


@plain("residual", "value_residual", method="mix")
def mix_values(part, v, call):
    if part.provides:
        call.provide(part.key, v)
        return v
    share = part.share_init if part.share is None else part.share
    return (1 - share) * v + share * call.need(part.key)
