"""Activations against PyTorch's modules, published formulas in double precision, and what a spline must be."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from minigpt import registry
from minigpt.errors import UserError
from minigpt.testing import make_spec
from tests.components.parts import part, values

NAMES = registry.names("activation")
MODULES = {
    "relu": nn.ReLU(),
    "gelu": nn.GELU(),
    "gelu_tanh": nn.GELU(approximate="tanh"),
    "silu": nn.SiLU(),
    "mish": nn.Mish(),
    "elu": nn.ELU(),
    "celu": nn.CELU(),
    "selu": nn.SELU(),
    "leaky_relu": nn.LeakyReLU(),
    "relu6": nn.ReLU6(),
    "softplus": nn.Softplus(),
    "softsign": nn.Softsign(),
    "tanh": nn.Tanh(),
    "sigmoid": nn.Sigmoid(),
    "hardswish": nn.Hardswish(),
    "hardsigmoid": nn.Hardsigmoid(),
    "identity": nn.Identity(),
}
WITH_OPTIONS = [
    ("elu", {"alpha": 0.3}, nn.ELU(0.3)),
    ("celu", {"alpha": 0.3}, nn.CELU(0.3)),
    ("leaky_relu", {"negative_slope": 0.3}, nn.LeakyReLU(0.3)),
    ("softplus", {"beta": 3.0}, nn.Softplus(3.0)),
    ("softshrink", {"threshold": 0.5}, nn.Softshrink()),
]


def wide(*shape: int) -> torch.Tensor:
    return 4 * values(*shape).double()


@pytest.mark.parametrize(
    ("name", "options", "module"), [*((name, {}, module) for name, module in MODULES.items()), *WITH_OPTIONS]
)
def test_it_is_pytorch_s_module_in_value_and_slope(name, options, module):
    ours, theirs = wide(3, 5, 32).requires_grad_(), wide(3, 5, 32).requires_grad_()
    mine, expected = part("activation", name, **options)(ours), module(theirs)
    torch.testing.assert_close(mine, expected, rtol=0, atol=0)
    for y in (mine, expected):
        y.square().sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=0)


@pytest.mark.parametrize("per_channel", [False, True])
def test_prelu_is_pytorch_s_with_a_slope_for_each_channel(per_channel):
    ours = part("activation", "prelu", per_channel=per_channel).double()
    theirs = nn.PReLU(32 if per_channel else 1).double()
    theirs.load_state_dict({"weight": ours.learned})
    x = wide(3, 5, 32)
    torch.testing.assert_close(ours(x), theirs(x.transpose(1, 2)).transpose(1, 2))


@pytest.mark.parametrize(
    ("name", "options", "formula"),
    [
        ("squared_relu", {}, lambda x, p: x.clamp(min=0) ** 2),
        ("relu_power", {"power": 3.0}, lambda x, p: x.clamp(min=0) ** 3),
        ("relu_power", {"power": 1.5}, lambda x, p: x.clamp(min=0) ** 1.5),
        ("squared_gelu", {}, lambda x, p: (x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))) ** 2),
        ("disco", {}, lambda x, p: x.sign() * x**2),
        ("gelu_shifted", {"per_channel": True}, lambda x, p: (x - p) * 0.5 * (1 + torch.erf((x - p) / math.sqrt(2)))),
        ("snake", {"per_channel": True}, lambda x, p: x + (1 - torch.cos(2 * p.exp() * x)) / (2 * p.exp())),
        ("swish_beta", {"per_channel": True}, lambda x, p: x / (1 + torch.exp(-p * x))),
    ],
)
def test_it_is_the_published_formula(name, options, formula):
    activation, x = part("activation", name, **options).double(), wide(3, 5, 32)
    torch.testing.assert_close(activation(x), formula(x, getattr(activation, "learned", None)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", NAMES)
def test_zero_small_and_large_inputs_give_finite_values_and_slopes_in_their_own_precision(name, dtype):
    x = torch.tensor([0, 1e-7, -1e-7, 1, -1, 200, -200], dtype=dtype)[:, None].repeat(1, 32).requires_grad_()
    y = part("activation", name)(x)
    y.float().sum().backward()
    assert y.dtype == dtype
    assert y.isfinite().all()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_a_nan_stays_one_and_breaks_nothing_else(name):
    y = part("activation", name)(torch.tensor([[math.nan] * 32, [1.0] * 32]))
    assert y[0].isnan().all()
    assert y[1].isfinite().all()


@pytest.mark.parametrize("name", ["prelu", "gelu_shifted", "snake", "swish_beta", "pfla", "learned_spline"])
def test_learned_numbers_are_one_for_all_or_one_for_each_channel(name):
    one, each = (part("activation", name, per_channel=per_channel) for per_channel in (False, True))
    count = sum(p.numel() for p in one.parameters())
    assert sum(p.numel() for p in each.parameters()) == 32 * count
    with torch.no_grad():
        for shared, own in zip(one.parameters(), each.parameters(), strict=True):
            own.copy_(shared.expand(own.shape))
    torch.testing.assert_close(one(values(2, 5, 32)), each(values(2, 5, 32)))


# Pieces


def started(name: str, **options):
    """One activation at its first values, in double precision."""
    from minigpt.model import GPT

    model = GPT.create(make_spec(mlp="mlp", activation={"name": name} | options)).double()
    activation = model.blocks[0].mlp.activation
    activation.init_buffers()  # in double precision, too
    return activation


def at(activation, x: torch.Tensor) -> torch.Tensor:
    return activation(x[:, None].expand(-1, 128))[:, 0]


@pytest.mark.parametrize("function", ["gelu", "silu", "relu", "tanh"])
def test_a_piecewise_linear_table_is_right_at_its_knots_and_straight_between(function):
    activation = started("piecewise_linear", function=function, points=9, bound=4.0)
    knots = torch.linspace(-4, 4, 9, dtype=torch.float64)
    heights = getattr(F, function, torch.tanh)(knots)
    torch.testing.assert_close(at(activation, knots), heights)
    torch.testing.assert_close(at(activation, (knots[1:] + knots[:-1]) / 2), (heights[1:] + heights[:-1]) / 2)
    beyond = heights[-1] + 3 * (heights[-1] - heights[-2])
    torch.testing.assert_close(at(activation, knots[-1:] + 3), beyond[None])
    assert not list(activation.parameters())


@pytest.mark.parametrize("density", ["linear", "quad", "exp"])
def test_pfla_starts_as_its_activation_at_its_knots_which_stay_in_order(density):
    activation = started("pfla", density=density, init_activation="silu")
    u = torch.linspace(-1, 1, 30, dtype=torch.float64)
    knots = 10 * {"linear": u, "quad": u * u.abs(), "exp": u.sign() * (32 ** u.abs() - 1) / 31}[density]
    torch.testing.assert_close(at(activation, knots), F.silu(knots), atol=1e-5, rtol=1e-5)  # starts are of fp32
    with torch.no_grad():
        activation.log_gaps.normal_(generator=torch.Generator().manual_seed(0))
    knots = torch.cat([activation.first, activation.first + activation.log_gaps.exp().cumsum(-1)], -1)[0].detach()
    torch.testing.assert_close(at(activation, knots), activation.heights[0])
    between = (activation.heights[0, 1:] + activation.heights[0, :-1]) / 2
    torch.testing.assert_close(at(activation, (knots[1:] + knots[:-1]) / 2), between)


@pytest.mark.parametrize("points", [3, 16])
def test_a_spline_meets_its_knots_with_two_continuous_derivatives_and_ends_straight(points):
    """Which is what defines the natural cubic spline."""
    activation = started("learned_spline", points=points, bound=2.0)
    with torch.no_grad():
        activation.heights.normal_(generator=torch.Generator().manual_seed(0))
    knots = torch.linspace(-2, 2, points, dtype=torch.float64)
    torch.testing.assert_close(at(activation, knots), activation.heights[0], atol=1e-12, rtol=0)
    sides = []
    for side in (-1e-9, 1e-9):
        x = (knots + side).requires_grad_()
        (slope,) = torch.autograd.grad(at(activation, x).sum(), x, create_graph=True)
        sides.append((slope, *torch.autograd.grad(slope.sum(), x)))
    (left, left_bend), (right, right_bend) = sides
    torch.testing.assert_close(left, right, atol=1e-6, rtol=0)
    torch.testing.assert_close(left_bend, right_bend, atol=1e-5, rtol=0)
    assert left_bend[[0, -1]].abs().max() < 1e-5
    x = torch.tensor([-9.0, -5.0, 5.0, 9.0]).double().requires_grad_()
    (slope,) = torch.autograd.grad(at(activation, x).sum(), x)
    torch.testing.assert_close(slope, torch.stack([left[0], left[0], right[-1], right[-1]]), atol=1e-6, rtol=0)


def test_a_spline_is_the_one_of_scipy():
    """``CubicSpline([-2, -1, 0, 1, 2], [0, 1, -1, 2, 0], bc_type="natural")`` of scipy 1.17 at five places."""
    activation = started("learned_spline", points=5, bound=2.0)
    with torch.no_grad():
        activation.heights.copy_(torch.tensor([0.0, 1.0, -1.0, 2.0, 0.0]))
    expected = torch.tensor([0.64125, 0.008, -0.86875, 0.40625, 0.91015625]).double()
    torch.testing.assert_close(at(activation, torch.tensor([-1.7, -0.6, 0.1, 0.5, 1.75]).double()), expected)


def test_a_channel_s_own_table_needs_learning():
    with pytest.raises(UserError, match=r"activation.per_channel: .*learned=false. Set activation.learned=true"):
        part("activation", "piecewise_linear", per_channel=True)
