"""Outputs equal to independent implementations: PyTorch's own modules, transformers, or the definition written out
slowly."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from minigpt.components.call import Span
from minigpt.testing import make_spec
from tests.components.parts import DEVICE, call, values


@pytest.mark.parametrize(
    "options", [{}, {"window": 5}, {"n_kv_head": 2}, {"n_kv_head": 3}, {"n_kv_head": 1, "window": 3}]
)
@pytest.mark.parametrize("position", ["rope", "alibi", "nope"])
def test_fused_and_explicit_attention_agree(options, position):
    spec = make_spec(attention={"name": "causal"} | options, position=position)
    attention = spec.context(0).build("attention").double()
    for module in attention.modules():
        if hasattr(module, "init_buffers"):
            module.init_buffers()
    g, span = attention.n_kv_head, Span(0, 16, DEVICE)
    q, k, v = values(2, 4, 16, 8).double(), values(2, g, 16, 8).double() + 1, values(2, g, 16, 8).double() - 1
    fused, explicit = (f(q, k, v, span, None) for f in (attention.attend_fused, attention.attend_explicitly))
    torch.testing.assert_close(fused, explicit)


def test_causal_attention_is_the_definition_row_by_row():
    attention = make_spec(attention={"name": "causal", "window": 4, "softcap": 2.0}, position="nope").context(0)
    attention = attention.build("attention")
    q, k, v = values(1, 4, 16, 8), values(1, 4, 16, 8) + 1, values(1, 4, 16, 8) - 1
    y = attention.attend_explicitly(q, k, v, Span(0, 16, DEVICE), None)
    for t in range(16):
        keys = slice(max(0, t - 3), t + 1)
        scores = 2.0 * torch.tanh((q[:, :, t : t + 1] @ k[:, :, keys].mT) / math.sqrt(8) / 2.0)
        torch.testing.assert_close(y[:, :, t : t + 1], scores.softmax(-1) @ v[:, :, keys])


def test_glu_has_the_parameters_of_an_mlp_and_computes_swiglu():
    from minigpt.model import GPT

    context = make_spec(d_model=96, mlp="glu").context(0)
    glu, mlp = context.build("mlp"), make_spec(d_model=96, mlp="mlp").context(0).build("mlp")
    assert sum(p.numel() for p in glu.parameters()) == sum(p.numel() for p in mlp.parameters())
    block = GPT.create(make_spec()).blocks[0]
    x = values(2, 5, 32)
    gate, up, down = (m.weight for m in (block.mlp.gate, block.mlp.up, block.mlp.down))
    torch.testing.assert_close(block.mlp(x, call(0, 5)), F.linear(F.silu(F.linear(x, gate)) * F.linear(x, up), down))


def test_layouts_are_wired_as_their_papers_say():
    from minigpt.model import GPT

    x, here = values(2, 5, 32), call(0, 5)
    for layout in ("pre_norm", "post_norm", "parallel"):
        b = GPT.create(make_spec(layout=layout)).blocks[0]
        attend = lambda y, b=b: b.attention(y, here)  # noqa: E731
        think = lambda y, b=b: b.mlp(y, here)  # noqa: E731
        if layout == "pre_norm":
            h = x + attend(b.attention_norm(x))
            expected = h + think(b.mlp_norm(h))
        elif layout == "post_norm":
            h = b.attention_norm(x + attend(x))
            expected = b.mlp_norm(h + think(h))
        else:
            expected = x + attend(b.attention_norm(x)) + think(b.mlp_norm(x))
        torch.testing.assert_close(b(x, here), expected, msg=layout)
