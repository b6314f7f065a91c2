"""Norms against PyTorch's modules and their formulas in double precision, and what a norm does at the edge."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from minigpt import registry
from minigpt.errors import UserError
from minigpt.testing.cases import cases_of
from tests.components.parts import part, values

NAMES = [name for name in registry.names("norm") if not registry.get("norm", name).deferred]
CASES = [case for name in NAMES for case in cases_of("norm", name)]


def double(name: str, **options):
    return part("norm", name, 32, **options).double()


def wide(*shape: int) -> torch.Tensor:
    return 3 * values(*shape).double()


def rms(x: torch.Tensor) -> torch.Tensor:
    return x.square().mean(-1, keepdim=True).sqrt()


@pytest.mark.parametrize("bias", [True, False])
def test_layernorm_is_pytorch_s(bias):
    ours, theirs = double("layernorm", bias=bias), nn.LayerNorm(32, bias=bias).double()
    theirs.load_state_dict({"weight": ours.gain} | ({"bias": ours.bias} if bias else {}))
    x = wide(2, 5, 32)
    torch.testing.assert_close(ours(x), theirs(x))
    bare = nn.LayerNorm(32, elementwise_affine=False).double()
    torch.testing.assert_close(double("layernorm", gain=False, bias=False)(x), bare(x))


def test_rmsnorm_is_pytorch_s():
    ours, theirs = double("rmsnorm"), nn.RMSNorm(32, eps=1e-6).double()
    theirs.load_state_dict({"weight": ours.gain})
    x = wide(2, 5, 32)
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize("groups", [None, 2, 16])
def test_groupnorm_is_pytorch_s_for_each_token_alone(groups):
    ours, theirs = double("groupnorm", groups=groups, bias=True), nn.GroupNorm(groups or 4, 32).double()
    theirs.load_state_dict({"weight": ours.gain, "bias": ours.bias})
    x = wide(2, 5, 32)
    torch.testing.assert_close(ours(x), theirs(x.flatten(0, 1)).view(x.shape))


def test_prmsnorm_goes_by_the_first_part_of_the_row():
    norm, x = double("prmsnorm", p=0.25), wide(2, 5, 32)
    torch.testing.assert_close(norm(x), norm.gain * x / rms(x[..., :8]), rtol=1e-6, atol=0)
    assert [double("prmsnorm", p=p).used for p in (0.0625, 0.1, 1.0, 1e-9)] == [2, 4, 32, 1]
    whole, rmsnorm = double("prmsnorm", p=1.0), double("rmsnorm")
    torch.testing.assert_close(whole(x), rmsnorm(x))


def test_krmsnorm_goes_by_k_dimensions_the_random_ones_by_seed_and_layer():
    x = wide(2, 5, 32)
    for dims, few in (("first", x[..., :10]), ("last", x[..., 22:])):
        norm = double("krmsnorm", dims=dims)
        torch.testing.assert_close(norm(x), norm.gain * x / rms(few), rtol=1e-6, atol=0)
    norm = double("krmsnorm", dims="random")
    assert len(set(norm.chosen.tolist())) == 10
    torch.testing.assert_close(norm(x), norm.gain * x / rms(x[..., norm.chosen]), rtol=1e-6, atol=0)
    assert torch.equal(norm.chosen, double("krmsnorm", dims="random").chosen)
    assert not torch.equal(norm.chosen, double("krmsnorm", dims="random", seed=1).chosen)


@pytest.mark.parametrize(("kind", "largest"), [("int8", 127), ("int16", 32767)])
def test_a_quantised_krmsnorm_sums_squares_of_whole_numbers_times_the_squared_scale(kind, largest):
    """Forgetting to square the scale, or to undo it, is a factor."""
    norm, x = double("krmsnorm", quantize=kind, gain=False), wide(4, 32) * torch.tensor([[1e-2], [1.0], [7.0], [1e3]])
    step = x[:, :10].abs().amax(-1, keepdim=True) / largest
    whole = (x[:, :10] / step).round()
    assert whole.abs().max() == largest
    expected = x / (step.square() * whole.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    torch.testing.assert_close(norm(x), expected)
    torch.testing.assert_close(norm(x), double("krmsnorm", gain=False)(x), rtol=1 / largest, atol=0)


def test_hyperspherenorm_puts_every_row_onto_the_sphere():
    x = wide(2, 5, 32)
    for radius in (None, 0.5):
        lengths = double("hyperspherenorm", radius=radius)(x).norm(dim=-1)
        torch.testing.assert_close(lengths, torch.full_like(lengths, radius or math.sqrt(32)), rtol=1e-6, atol=0)
    torch.testing.assert_close(
        double("hyperspherenorm")(x), nn.RMSNorm(32, eps=1e-8)(x.float()).double(), rtol=1e-5, atol=0
    )
    norm = double("hyperspherenorm", learned_radius=True, gain=True)
    expected = norm.gain * norm.log_radius.exp() * x / x.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(norm(x), expected, rtol=1e-6, atol=0)


def test_capped_hyperspherenorm_moves_only_what_is_outside():
    norm, x = double("capped_hyperspherenorm", radius=2.0), wide(2, 5, 32)
    inside = 1.99 * x / x.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(norm(inside), inside, rtol=1e-12, atol=0)
    torch.testing.assert_close(norm(x), 2 * x / x.norm(dim=-1, keepdim=True))
    learned = double("capped_hyperspherenorm", learned_radius=True, gain=True)
    expected = learned.gain * x * (learned.log_radius.exp() / x.norm(dim=-1, keepdim=True)).clamp(max=1)
    torch.testing.assert_close(learned(x), expected)


@pytest.mark.parametrize(
    ("act", "formula"),
    [
        ("tanh", lambda z: (z.exp() - (-z).exp()) / (z.exp() + (-z).exp())),
        ("hardtanh", lambda z: z.clamp(-1, 1)),
        ("softsign", lambda z: z / (1 + z.abs())),
        ("sigmoid", lambda z: 1 / (1 + (-z).exp())),
    ],
)
def test_dyt_is_the_paper_s_formula(act, formula):
    dyt, x = double("dyt", act=act), wide(2, 5, 32)
    torch.testing.assert_close(dyt(x), dyt.gain * formula(dyt.alpha * x) + dyt.bias)


def test_derf_is_the_paper_s_formula():
    derf, x = double("derf"), wide(2, 5, 32)
    expected = derf.gain * torch.special.erf(derf.alpha * x + derf.shift) + derf.bias
    torch.testing.assert_close(derf(x), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_flashnorm_hands_on_the_row_and_its_scale(dtype):
    x = torch.cat([torch.zeros(1, 32), 300 * values(4, 32)]).to(dtype).requires_grad_()
    rows, scale = part("norm", "flashnorm", 32)(x)
    torch.testing.assert_close(rows * scale, part("norm", "rmsnorm", 32, gain=False)(x.float()), rtol=1e-3, atol=1e-3)
    (rows * scale).sum().backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rows_of_zeros_and_of_any_size_give_finite_values_and_gradients(case):
    norm = part("norm", case.name, 32, **case.changed)
    x = torch.cat([torch.zeros(1, 32), values(5, 32) * torch.logspace(-30, 18, 5)[:, None]]).requires_grad_()
    y = norm(x)
    (y / (1 + y.detach().abs().amax(-1, keepdim=True))).sum().backward()
    assert y.isfinite().all()
    assert x.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in norm.parameters())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", NAMES)
def test_squares_of_narrow_numbers_do_not_overflow(name, dtype):
    x = (300 * values(4, 32)).to(dtype)  # 300^2 is more than fp16 holds
    y, expected = part("norm", name, 32)(x), part("norm", name, 32)(x.float())
    torch.testing.assert_close(y.float(), expected, rtol=0.02, atol=0.02)


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("krmsnorm", {"k": 33}, r"norm.k: 33 is more than the 32 dimensions here. Take at most 32"),
        ("krmsnorm", {"seed": 1}, r"norm.seed: does nothing with norm.dims=first"),
        ("groupnorm", {"groups": 5}, r"norm.groups: 32 channels do not split into 5 norm.groups"),
        ("groupnorm", {"groups": 32}, r"norm.groups: .* two or more"),
    ],
)
def test_what_would_do_nothing_or_cannot_be_is_refused(name, options, sentence):
    with pytest.raises(UserError, match=sentence):
        part("norm", name, 32, **options)
