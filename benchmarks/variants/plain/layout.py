"""Layouts, as their formulas say, for one stream that is added to. a: attention, m: mlp, each with its norms."""

from __future__ import annotations

from torch.nn.functional import dropout

from benchmarks.variants.plain import plain


def attend(part, x, call):
    return dropout(part.attention(x, call), part.dropout.p, part.training)


def think(part, x, call):
    return dropout(part.mlp(x, call), part.dropout.p, part.training)


@plain("layout", "pre_norm")
def pre_norm(part, stream, call, state=None):
    stream = stream + attend(part, part.attention_norm(stream), call)
    return stream + think(part, part.mlp_norm(stream), call)


@plain("layout", "post_norm")
def post_norm(part, stream, call, state=None):
    stream = part.attention_norm(stream + attend(part, stream, call))
    return part.mlp_norm(stream + think(part, stream, call))


@plain("layout", "res_post_norm")
def res_post_norm(part, stream, call, state=None):
    attended = part.attention_norm(part.attention(stream, call))
    stream = stream + dropout(attended, part.dropout.p, part.training)
    thought = part.mlp_norm(part.mlp(stream, call))
    return stream + dropout(thought, part.dropout.p, part.training)


@plain("layout", "sandwich")
def sandwich(part, stream, call, state=None):
    attended = part.attention_out_norm(part.attention(part.attention_norm(stream), call))
    stream = stream + dropout(attended, part.dropout.p, part.training)
    thought = part.mlp_out_norm(part.mlp(part.mlp_norm(stream), call))
    return stream + dropout(thought, part.dropout.p, part.training)


@plain("layout", "parallel")
def parallel(part, stream, call, state=None):
    mlp_norm = part.attention_norm if part.mlp_norm is None else part.mlp_norm
    attended = attend(part, part.attention_norm(stream), call)
    return stream + attended + think(part, mlp_norm(stream), call)


@plain("layout", "attention_only")
def attention_only(part, stream, call, state=None):
    return stream + attend(part, part.attention_norm(stream), call)


@plain("layout", "mlp_only")
def mlp_only(part, stream, call, state=None):
    return stream + think(part, part.mlp_norm(stream), call)
