"""Outputs equal to independent implementations: PyTorch's own modules, transformers, or the definition written out
slowly."""

from __future__ import annotations

import math

import pytest
import torch

from minigpt.components.call import Span
from minigpt.testing import make_spec
from tests.components.parts import DEVICE, values


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
