"""Linear maps: what they multiply with, beside torch's own rounding and the published formulas."""

from __future__ import annotations

import pytest
import torch

from minigpt.components.linear.ternary import ternary
from minigpt.components.rounding import symmetric
from tests.components.parts import part, values


def test_ternary_weights_take_three_values_and_activations_one_scale_per_token():
    weight = values(32, 32)
    scale = weight.abs().mean()
    assert set((ternary(weight) / scale).round().unique().tolist()) == {-1.0, 0.0, 1.0}
    x = values(3, 16)
    rounded = symmetric(x, 8)
    assert torch.equal(symmetric(x[:1], 8), rounded[:1])  # the other tokens do not matter
    assert ((rounded - x).abs() <= x.abs().amax(-1, keepdim=True) / 127 / 2 + 1e-6).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("bits", [8, 16])
def test_small_and_zero_rows_quantise_to_finite_values_in_narrow_formats(dtype, bits):
    x = torch.tensor([[0, 0, 1e-3], [0, 0, 0], [1, -2, 3]], dtype=dtype)
    rounded = symmetric(x, bits)
    assert rounded.dtype == dtype
    torch.testing.assert_close(rounded, x, atol=0.02, rtol=0.01)


def test_ternary_passes_the_gradient_of_the_unrounded_map():
    linear, x = part("linear", "ternary", 32, 32, "weight", False, activation_bits=None), values(4, 32)
    linear(x).sum().backward()
    torch.testing.assert_close(linear.weight.grad, x.sum(0).expand(32, 32))
