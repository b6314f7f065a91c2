"""Softmaxes: masks, published formulas and numbers in double precision, other implementations."""

from __future__ import annotations

import math

import pytest
import torch

from minigpt import registry
from minigpt.errors import UserError
from minigpt.testing import all_cases, make_spec
from minigpt.testing.models import SIZES, batch, create, decode, moved
from tests.components.parts import above_diagonal, part, values

MASKED = [case for case in all_cases(("softmax", name) for name in registry.names("softmax"))]


@pytest.mark.parametrize("case", MASKED, ids=str)
def test_masked_scores_get_no_weight_and_no_gradient(case):
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        softmax = part("softmax", case.name, **case.changed).to(dtype)
        scores = (3 * values(1, 4, 6, 6)).to(dtype).masked_fill(above_diagonal(6), -math.inf).requires_grad_()
        weights = softmax(scores)
        assert (weights[..., above_diagonal(6)] == 0).all()
        (weights.float() * values(6, 6)).sum().backward()
        for gradient in (scores.grad, *(parameter.grad for parameter in softmax.parameters())):
            assert gradient.isfinite().all(), dtype
        assert (scores.grad[..., above_diagonal(6)] == 0).all()


@pytest.mark.parametrize("name", [n for n in registry.names("softmax") if registry.get("softmax", n).normalised])
def test_normalised_rows_sum_to_one_for_scores_of_any_size(name):
    for size in (1e-4, 1.0, 1e4):
        weights = part("softmax", name)(size * values(1, 4, 3, 8))
        assert weights.isfinite().all()
        torch.testing.assert_close(weights.sum(-1), torch.ones(1, 4, 3))


def test_softmax_is_the_definition():
    scores = values(1, 4, 3, 8).double()
    torch.testing.assert_close(part("softmax", "softmax")(scores), scores.exp() / scores.exp().sum(-1, keepdim=True))


@pytest.mark.parametrize("online", [True, False])
def test_softermax_is_softmax_in_base_two(online):
    scores = values(1, 4, 3, 8).double()
    expected = torch.softmax(scores * math.log(2), dim=-1)
    torch.testing.assert_close(part("softmax", "softermax", online=online)(scores), expected)


@pytest.mark.parametrize("per_head", [True, False])
def test_consmax_is_the_paper_s_formula_and_folds_into_one_constant(per_head):
    consmax, scores = part("softmax", "consmax", per_head=per_head), values(2, 4, 3, 8)
    gamma = consmax.log_gamma.exp()
    torch.testing.assert_close(consmax(scores), torch.exp(scores - consmax.beta) / gamma)
    constant = torch.exp(-consmax.beta) / gamma
    torch.testing.assert_close(consmax(scores), constant * scores.exp())


def test_consmax_starts_at_the_published_constants():
    from minigpt.model import GPT

    softmax = GPT.create(make_spec(softmax="consmax")).blocks[0].attention.softmax
    assert softmax.beta.item() == pytest.approx(2.5)
    assert softmax.log_gamma.exp().item() == pytest.approx(100.0, rel=1e-5)


def sigmoid(s: float) -> float:
    return 1 / (1 + math.exp(-s))


ELEMENTWISE = {
    "relumax": (256, lambda s: max(s, 0)),
    "relu2max": (256, lambda s: max(s, 0) ** 2),
    "sigmoidmax": (256, sigmoid),
    "softplusmax": (256, lambda s: math.log(1 + math.exp(s))),
    "softplus2max": (256, lambda s: math.log(1 + math.exp(s)) ** 2),
    "squareplusmax": (256, lambda s: (s + math.sqrt(s * s + 4 * math.log(2) ** 2)) / 2),
    "softshrinkmax": (64, lambda s: s - 0.5 if s > 0.5 else s + 0.5 if s < -0.5 else 0),
    "gelumax": (64, lambda s: s * (1 + math.erf(s / math.sqrt(2))) / 2),
    "polymax": (1000, lambda s: s**2 + 1 if s > 0 else max(0, 1 + s / 100)),
    "vpolymax": (1000, lambda s: s**2 + 1 if s > 0 else 1 - s / 100 if s >= -100 else 0),
    "exppolymax": (1000, lambda s: (s + 0.5) ** 2 + 0.75 if s > 0 else math.exp(s)),
}
"""Usual divisor and function of one score."""


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_a_softmax_without_a_sum_is_its_formula(name):
    divisor, function = ELEMENTWISE[name]
    points = [-300.0, -100.5, -20.0, -3.0, -0.5, -1e-3, 0.0, 1e-3, 0.5, 3.0, 15.0]
    scores = torch.tensor(points, dtype=torch.float64).view(1, 1, 1, -1)
    expected = torch.tensor([function(s) / divisor for s in points], dtype=torch.float64).view(1, 1, 1, -1)
    torch.testing.assert_close(part("softmax", name)(scores), expected, atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize("name", [n for n in ELEMENTWISE if hasattr(registry.get("softmax", n).Config, "length_scale")])
def test_length_scale_divides_by_the_keys_a_row_may_see(name):
    scores = values(1, 4, 5, 5).masked_fill(above_diagonal(5), -math.inf)
    by_one, scaled = (part("softmax", name, divisor=1.0, length_scale=scale)(scores) for scale in (False, True))
    torch.testing.assert_close(scaled, by_one / torch.arange(1, 6).view(5, 1))
    torch.testing.assert_close(part("softmax", name, length_scale=True)(scores), scaled)


def sides(name: str, at: float, **options) -> list[tuple[float, float]]:
    """Value and slope just below and just above a score, times the divisor."""
    found = []
    for s in (at - 1e-9, at + 1e-9):
        scores = torch.full((1, 1, 1, 1), s, dtype=torch.float64, requires_grad=True)
        y = part("softmax", name, divisor=1.0, **options)(scores)
        y.sum().backward()
        found.append((y.item(), scores.grad.item()))
    return found


@pytest.mark.parametrize("options", [{}, {"y_intercept": 0.3, "power": 3.0}, {"x_intercept": -0.5}])
@pytest.mark.parametrize("name", ["polymax", "vpolymax"])
def test_polymax_and_vpolymax_meet_at_zero(name, options):
    (below, _), (above, _) = sides(name, 0.0, **options)
    assert below == pytest.approx(above, abs=1e-7) == options.get("y_intercept", 1.0)
    if name == "polymax":
        (below, _), (above, _) = sides(name, options.get("x_intercept", -100.0), **options)
        assert below == pytest.approx(above, abs=1e-7) == 0


@pytest.mark.parametrize("power", [1.5, 2.0, 3.0])
@pytest.mark.parametrize("base", [1.1, 2.0, math.e, 10.0])
def test_exppolymax_meets_at_zero_in_value_and_slope_whatever_the_base(base, power):
    below, above = sides("exppolymax", 0.0, base=base, power=power)
    assert below == pytest.approx(above, abs=1e-7)
    assert below == pytest.approx((1.0, math.log(base)), abs=1e-7)


@pytest.mark.parametrize(
    "options", [{"init": 0.5}, {"learned": True, "init": -1.0}, {"learned": True, "per_head": True}]
)
def test_softmax1_is_the_paper_s_formula_for_scores_of_any_size(options):
    softmax1, scores = part("softmax", "softmax1", **options).double(), values(1, 4, 3, 8).double()
    constant = softmax1.c.exp()
    torch.testing.assert_close(softmax1(scores), scores.exp() / (constant + scores.exp().sum(-1, keepdim=True)))
    for size in (-1e4, 1e4):  # a sum alone would be 0 or infinite
        assert softmax1(scores * size).isfinite().all()
    assert softmax1(scores - 1e4).sum() == 0


SINKS = [{"init": 1.0}, {"learned": True, "per_head": True}]
AROUND = {
    "plain": {},
    "window": {"attention": {"name": "causal", "window": 5}},
    "gqa": {"attention": {"name": "causal", "n_kv_head": 2}, "position": "alibi"},
    "uneven groups": {"attention": {"name": "causal", "n_kv_head": 3}, "position": "nope"},
}


@pytest.mark.parametrize("options", SINKS, ids=str)
@pytest.mark.parametrize("around", AROUND)
def test_softmax1_on_the_fused_path_is_the_explicit_one_in_values_and_gradients(options, around):
    spec = make_spec(softmax={"name": "softmax1"} | options, **AROUND[around] | SIZES | {"dropout": 0.0})
    model, padding, answers = moved(create(spec)).double().eval(), torch.tensor([0, 2, 5]), []
    for fused in (True, False):
        for block in model.blocks:
            block.attention.softmax.fused = fused
            assert block.attention.path.startswith("fused" if fused else "explicit")
        model.zero_grad()
        logits = model(batch()).logits
        logits.square().mean().backward()
        with torch.no_grad():
            cached = decode(model, batch(), (5, 9, 1, 1), padding)
        answers.append([logits, cached, *(parameter.grad for parameter in model.parameters())])
    for ours, theirs in zip(*answers, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_softmax1_refuses_heads_apart_that_learn_nothing():
    with pytest.raises(UserError, match=r"softmax\.per_head: does nothing.*Set softmax\.learned=true"):
        part("softmax", "softmax1", per_head=True)


CONSTANTS = {"beta": 1.5, "log_gamma": math.log(20.0)}


def consistent(name: str, **options):
    """A ConSmax of known constants, in double precision."""
    softmax = part("softmax", name, **options).double()
    with torch.no_grad():
        for parameter, value in CONSTANTS.items():
            getattr(softmax, parameter).fill_(value)
    return softmax


@pytest.mark.parametrize("options", [{}, {"base": 2.0}, {"clamp": 0.5}, {"base": 2.0, "clamp": 0.5}])
def test_consmax_of_any_base_is_its_formula(options):
    scores, base = values(1, 4, 3, 8).double(), options.get("base", math.e)
    expected = (
        base ** (scores.clamp(max=options.get("clamp")) - 1.5) / 20
        if "clamp" in options
        else base ** (scores - 1.5) / 20
    )
    torch.testing.assert_close(consistent("consmax", **options)(scores), expected)


def test_saturating_consmax_stays_at_the_value_it_saturates_at():
    """At its defaults e^11 / 100 = 598.74 from s = 13.5 on; the position of that point over gamma would be 0.135."""
    softmax = part("softmax", "saturating_consmax").double()
    with torch.no_grad():
        softmax.beta.fill_(2.5)
        softmax.log_gamma.fill_(math.log(100))
    scores = torch.tensor([13.4, 13.5, 13.6, 50.0, 1e4], dtype=torch.float64).view(1, 1, 1, 5)
    below, at, *above = softmax(scores).flatten().tolist()
    assert below == pytest.approx(math.exp(10.9) / 100)
    assert [at, *above] == pytest.approx([598.7414171519781] * 4)
    base = consistent("saturating_consmax", base=2.0, saturation=3.0)
    torch.testing.assert_close(base(scores), torch.full_like(scores, 2.0**3 / 20))
    half = part("softmax", "saturating_consmax").half()
    half.log_gamma.data.fill_(0)
    assert half(scores.half().clamp(max=6e4)).isfinite().all()  # e^11 is what fp16 still holds


@pytest.mark.parametrize("per_head", [True, False])
def test_consmax_quantized_rounds_its_constants_and_splits_into_two_tables(per_head):
    softmax, step = consistent("consmax_quantized", per_head=per_head, bits=4), 0.0625
    with torch.no_grad():
        softmax.beta.fill_(1.4)
    beta, gamma = softmax.constants()
    assert beta.flatten().tolist() == [1.0] * beta.numel()  # steps of 1
    assert gamma.flatten().tolist() == [16.0] * gamma.numel()  # steps of 16
    codes = torch.arange(-128, 128)
    high, low = softmax.tables(step)
    assert high.shape[-1] == low.shape[-1] == 16
    split = high[..., (codes >> 4) + 8] * low[codes & 15]
    whole = softmax((codes * step).double().expand(1, 4, 1, 256))
    torch.testing.assert_close(split.view(1, -1, 1, 256).expand_as(whole), whole)
    softmax(values(1, 4, 3, 8).double()).sum().backward()
    for parameter in softmax.parameters():
        assert parameter.grad.abs().min() > 0


def test_consmax_quantized_keeps_its_constants_in_range():
    softmax = consistent("consmax_quantized")
    with torch.no_grad():
        softmax.beta.fill_(1e4)
        softmax.log_gamma.fill_(-30)
    beta, gamma = softmax.constants()
    assert (beta.item(), gamma.item()) == (8 - 1 / 16, 1.0)


@pytest.mark.parametrize("use_xmax", [True, False])
@pytest.mark.parametrize("obo", [0.0, 1.5])
def test_strongermax_is_its_formula(use_xmax, obo):
    scores = values(1, 4, 3, 8).double()
    softmax = part("softmax", "strongermax", strength=3.0, temperature=2.0, obo=obo, divisor=4.0, use_xmax=use_xmax)
    powers = 3.0 ** (scores / 2)
    torch.testing.assert_close(softmax(scores), powers / (obo + powers.sum(-1, keepdim=True)) / 4)
    alone = part("softmax", "strongermax", strength=3.0, temperature=2.0, sum_to_one=False, use_xmax=use_xmax)
    largest = scores.amax(-1, keepdim=True) if use_xmax else 0
    torch.testing.assert_close(alone(scores), 3.0 ** ((scores - largest) / 2))


def test_strongermax_s_obo_is_the_same_for_scores_of_any_size():
    softmax = part("softmax", "strongermax", obo=1.0, learn_obo=True, learn_temperature=True)
    for size in (-1e4, -100.0, 100.0, 1e4):
        scores = (values(1, 4, 3, 8) + size).requires_grad_()
        weights = softmax(scores)
        weights.sum().backward()
        assert weights.isfinite().all()
        assert scores.grad.isfinite().all()
        assert ((weights.sum(-1) < 1e-3) if size < 0 else (weights.sum(-1) > 0.999)).all()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"sum_to_one": False, "obo": 1.0}, r"softmax\.obo: is added to a sum that softmax\.sum_to_one=false"),
        ({"learn_obo": True}, r"softmax\.learn_obo: starts from softmax\.obo, which must be above 0"),
    ],
)
def test_strongermax_refuses_what_would_do_nothing(options, sentence):
    with pytest.raises(UserError, match=sentence):
        part("softmax", "strongermax", **options)


@pytest.mark.parametrize("base", [2.0, math.e])
def test_sigsoftmax_is_the_paper_s_formula(base):
    scores = values(1, 4, 3, 8).double()
    powers = base**scores * torch.sigmoid(scores)
    softmax = part("softmax", "sigsoftmax", base=base)
    torch.testing.assert_close(softmax(scores), powers / powers.sum(-1, keepdim=True))


def test_argmax_ste_is_one_hot_with_the_gradient_of_softmax():
    scores, far = values(1, 4, 3, 8).double().requires_grad_(), values(1, 4, 3, 8).double() - 0.5
    weights = part("softmax", "argmax_ste")(scores)
    assert torch.equal(weights, torch.nn.functional.one_hot(scores.argmax(-1), 8).double())
    (gradient,) = torch.autograd.grad((weights * far).sum(), scores)
    (expected,) = torch.autograd.grad((torch.softmax(scores, -1) * far).sum(), scores)
    torch.testing.assert_close(gradient, expected)
    ties = torch.zeros(1, 4, 3, 8)
    assert torch.equal(part("softmax", "argmax_ste")(ties).sum(-1), torch.ones(1, 4, 3))


@pytest.mark.parametrize("name", ["sparsemax", "entmax15"])
def test_sparse_projections_equal_the_entmax_package_in_values_and_gradients(name):
    import entmax

    upstream, ours, theirs = values(2, 4, 30, 40).double() - 0.3, part("softmax", name), getattr(entmax, name)
    for size in (0.01, 0.5, 2.0, 100.0):
        scores = (size * values(2, 4, 30, 40)).double().requires_grad_()
        results = []
        for function in (ours, lambda s: theirs(s, dim=-1)):
            weights = function(scores)
            results.append((weights, *torch.autograd.grad((weights * upstream).sum(), scores)))
        for found, expected in zip(*results, strict=True):
            torch.testing.assert_close(found, expected, atol=1e-9, rtol=1e-7)
    assert (weights == 0).any()


@pytest.mark.parametrize("name", ["sparsemax", "entmax15"])
def test_the_halvings_that_hardware_is_priced_for_find_the_same_weights(name):
    from minigpt.components.softmax.sparse import HALVINGS

    scores, softmax = 3 * values(1, 4, 3, 40).double(), part("softmax", name)
    z = (scores - scores.amax(-1, keepdim=True)) / softmax.power
    low = torch.full_like(z[..., :1], -1)
    for halving in range(1, HALVINGS + 1):
        middle = low + 2.0**-halving
        low = torch.where(((z - middle).relu() ** softmax.power).sum(-1, keepdim=True) >= 1, middle, low)
    torch.testing.assert_close((z - low).relu() ** softmax.power, softmax(scores), atol=2 * 2.0**-HALVINGS, rtol=0)


@pytest.mark.parametrize("name", ["sparsemax", "entmax15"])
def test_sparse_rows_of_a_thousand_keys_sum_to_one(name):
    weights = part("softmax", name)(0.1 * values(1, 4, 2, 1024))
    torch.testing.assert_close(weights.sum(-1), torch.ones(1, 4, 2), atol=1e-4, rtol=0)


def pfla(**options):
    """A pfla softmax whose heights are those it starts with, in double precision."""
    softmax = part("softmax", "pfla", **options).double()
    softmax.init_buffers()
    starts = {}

    class Noted:
        def values(self, parameter, values, role):
            starts[parameter] = values

        def constant(self, parameter, value, role):
            starts[parameter] = torch.full(parameter.shape, value)

    softmax.init_parameters(Noted())
    with torch.no_grad():
        for parameter, start in starts.items():
            parameter.copy_(start)
    return softmax


@pytest.mark.parametrize("density", ["linear", "quad", "exp"])
def test_pfla_goes_through_its_knots_in_lines_and_is_constant_beyond(density):
    softmax = pfla(density=density, normalise="gamma", gamma_init=2.0, points=8)
    knots, heights = softmax.knots, softmax.log_heights.exp() / 2
    torch.testing.assert_close(heights, knots.exp() / 2)
    assert knots[0] == -10 == -knots[-1]
    assert (knots.diff() > 0).all()

    def curve(scores):
        return softmax(scores.view(1, 1, 1, -1)).flatten()

    torch.testing.assert_close(curve(knots), heights)
    for share in (0.25, 0.5):
        torch.testing.assert_close(
            curve(knots[:-1] + share * knots.diff()), heights[:-1] + share * heights.diff(), atol=1e-12, rtol=1e-7
        )
    torch.testing.assert_close(curve(torch.tensor([-1e4, -10.5, 10.5, 1e4]).double()), heights[[0, 0, -1, -1]])


def test_pfla_starts_near_softmax_and_its_rows_sum_to_one():
    scores = values(1, 4, 3, 8).double()
    weights = pfla()(scores)
    torch.testing.assert_close(weights, torch.softmax(scores, -1), atol=0.02, rtol=0)
    torch.testing.assert_close(weights.sum(-1), torch.ones(1, 4, 3, dtype=torch.float64))


@pytest.mark.parametrize("density", ["linear", "exp"])
def test_pfla_s_parabolas_are_exact_for_a_parabola_and_never_negative(density):
    softmax = pfla(mode="quadratic", density=density, points=9, normalise="gamma", gamma_init=1.0)
    scores = torch.linspace(-12, 12, 400, dtype=torch.float64).view(1, 1, 1, -1)
    with torch.no_grad():
        softmax.log_heights.copy_(((softmax.knots - 3) ** 2 + 30).log())
        inside = (scores >= softmax.knots[1]) & (scores <= 10)
        torch.testing.assert_close(softmax(scores)[inside], (scores[inside] - 3) ** 2 + 30)
        for seed in range(20):  # heights of wild sizes, for which a parabola through the points goes below zero
            softmax.log_heights.copy_(6 * torch.randn(9, generator=torch.Generator().manual_seed(seed)))
            for dtype in (torch.float64, torch.float32):
                assert (softmax.to(dtype)(scores.to(dtype)) >= 0).all()
            softmax.double()


def test_pfla_refuses_a_gamma_beside_a_sum():
    with pytest.raises(UserError, match=r"softmax\.gamma_init: there is no gamma.*Set softmax\.normalise=gamma"):
        part("softmax", "pfla", gamma_init=2.0)


def test_exppolymax_refuses_a_shift_in_which_scores_are_lost():
    with pytest.raises(UserError, match=r"softmax\.power: 1\.1 with softmax\.base=10 would add .*a smaller base"):
        part("softmax", "exppolymax", base=10.0, power=1.1)


def test_a_report_prices_every_softmax():
    from minigpt.cost import Work
    from minigpt.hardware import load
    from minigpt.hardware.constants import nominal
    from minigpt.hardware.demand import demand
    from minigpt.hardware.unit import unit

    spec = load("edge_16nm")
    constants = nominal(spec.all_constants)
    for case in MASKED:
        cost = part("softmax", case.name, **case.changed).cost(Work(1, 1, 64).over(4, 256))
        asked, made = demand(cost, spec), unit(cost, spec)
        assert asked.lane_ops + asked.special_ops > 0
        assert (made is None) == (asked.special_ops == 0)  # what ordinary lanes do needs no unit
        assert made is None or made.area_um2(constants) > 0
