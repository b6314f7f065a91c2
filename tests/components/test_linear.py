"""Linear maps and quantisers: beside torch's own rounding and the published formulas."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from minigpt.components.linear.ternary import ternary
from minigpt.components.rounding import affine, symmetric
from minigpt.cost import Work
from minigpt.errors import UserError
from minigpt.formats import weight_format
from minigpt.model import GPT
from minigpt.testing import CONTRACTS, make_spec
from minigpt.testing.cases import Case
from minigpt.testing.models import batch, loss_of
from tests.components.parts import part, values


def linear_map(name, n_in=32, n_out=24, bias=False, **options):
    """One map with a random weight."""
    built = part("linear", name, n_in, n_out, "weight", bias, **options)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        built.weight.copy_(torch.randn(built.weight.shape, generator=generator))
    return built


def torch_fakes(weight, bits, scheme, rows):
    """torch.fake_quantize_per_channel_affine over rows that share a scale, and how it is called."""
    flat = weight.reshape(rows, -1)
    if scheme == "symmetric":
        most = 2 ** (bits - 1) - 1
        scale, zero, least = flat.abs().amax(1) / most, torch.zeros(rows, dtype=torch.int32), -most
    else:
        most, least = 2**bits - 1, 0
        low, high = flat.amin(1).clamp(max=0), flat.amax(1).clamp(min=0)
        scale = (high - low) / most
        zero = (-low / scale).round().to(torch.int32)
    return torch.fake_quantize_per_channel_affine(flat, scale.detach(), zero, 0, least, most).reshape(weight.shape)


@pytest.mark.parametrize("scheme", ["symmetric", "affine"])
@pytest.mark.parametrize(("granularity", "rows"), [("tensor", 1), ("channel", 24), ("group", 96)])
def test_int_qat_is_torch_s_fake_quantisation_in_values_and_gradients(scheme, granularity, rows):
    size = 8 if granularity == "group" else None
    for bits in (2, 4, 8):
        ours = linear_map("int_qat", bits=bits, scheme=scheme, granularity=granularity, group_size=size)
        theirs = ours.weight.detach().clone().requires_grad_()
        found, expected = ours.effective_weight(), torch_fakes(theirs, bits, scheme, rows)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        slope = values(24, 32)
        (found * slope).sum().backward()
        (expected * slope).sum().backward()
        inside = theirs.grad != 0  # torch lets no gradient through where an end of the range is rounded out of it
        assert inside.float().mean() > 0.85
        assert torch.equal(ours.weight.grad[inside], theirs.grad[inside])


@pytest.mark.parametrize(("scheme", "function"), [("symmetric", symmetric), ("affine", affine)])
def test_activations_are_rounded_as_torch_rounds_each_token(scheme, function):
    x = values(2, 5, 24)
    for bits in (2, 3, 8):
        torch.testing.assert_close(function(x, bits), torch_fakes(x, bits, scheme, 10), atol=1e-5, rtol=1e-5)
        rounded = part("quantiser", "int", bits=bits, scheme=scheme)(x)
        torch.testing.assert_close(rounded, function(x, bits))


def test_each_group_has_a_scale_of_its_own():
    qat = linear_map("int_qat", bits=4, granularity="group", group_size=8)
    before = qat.effective_weight().detach()
    with torch.no_grad():
        qat.weight[3, 8:16] *= 1000
    changed = (qat.effective_weight() != before).nonzero()
    assert changed[:, 0].unique().tolist() == [3]
    assert set(changed[:, 1].tolist()) <= set(range(8, 16))


def test_codes_of_a_group_are_no_more_than_its_bits_have():
    for bits in (2, 3, 4):
        for scheme, most in (("symmetric", 2**bits - 1), ("affine", 2**bits)):
            qat = linear_map("int_qat", bits=bits, scheme=scheme, granularity="group", group_size=16)
            assert max(len(row.unique()) for row in qat.effective_weight().view(-1, 16).mul(1e4).round()) <= most


def test_group_sizes_that_do_nothing_or_leave_a_rest_are_refused():
    for options, sentence in (
        ({"group_size": 8}, r"group_size: 8 does nothing with granularity=channel. Set linear.granularity=group"),
        ({"granularity": "group"}, r"granularity: group needs a size. Set linear.group_size"),
        ({"granularity": "group", "group_size": 5}, r"5 does not divide the 32 inputs.*divisor"),
    ):
        with pytest.raises(UserError, match=sentence):
            linear_map("int_qat", **options)
    with pytest.raises(UserError, match=r"linear.rank: 40 is more than a map of 32 x 24 can have. Take at most 24"):
        part("linear", "low_rank", 32, 24, "weight", False, rank=40)


def test_warmup_goes_from_the_full_weight_to_the_rounded_one_and_evaluation_rounds_at_once():
    qat, plain = linear_map("int_qat", bits=2, warmup=4), linear_map("int_qat", bits=2)
    full, rounded = qat.weight.detach(), plain.effective_weight().detach()
    for step in range(6):
        expected = torch.lerp(full, rounded, min(step / 4, 1))
        torch.testing.assert_close(qat.train().effective_weight().detach(), expected)
        torch.testing.assert_close(qat.eval().effective_weight().detach(), rounded)
        qat.updated()
    assert qat.state_dict()["updates"] == 6
    assert "updates" not in plain.state_dict()


def test_ternary_weights_take_three_values_and_activations_one_scale_per_token():
    weight = values(32, 32)
    scale = weight.abs().mean()
    assert set((ternary(weight) / scale).round().unique().tolist()) == {-1.0, 0.0, 1.0}
    x = values(3, 16)
    rounded = symmetric(x, 8)
    assert torch.equal(symmetric(x[:1], 8), rounded[:1])  # the other tokens do not matter
    assert ((rounded - x).abs() <= x.abs().amax(-1, keepdim=True) / 127 / 2 + 1e-6).all()


@pytest.mark.parametrize("name", ["ternary", "binary"])
def test_bitnet_maps_are_the_papers_formulas_in_double_precision(name):
    bit, x = linear_map(name).double(), values(2, 3, 32).double()
    weight = bit.weight.detach()
    if name == "ternary":  # arXiv:2402.17764: RoundClip(W / (gamma + eps), -1, 1), gamma the mean of |W|
        gamma = weight.abs().mean()
        low = torch.clip(torch.round(weight / gamma), -1, 1)
    else:  # arXiv:2310.11453, equations 1 to 3 and 11: Sign(W - alpha), beta the mean of |W|
        gamma = weight.abs().sum() / weight.numel()
        low = torch.sign(weight - weight.sum() / weight.numel())
    largest = x.abs().max(dim=-1, keepdim=True).values  # of a token
    codes = torch.clip(torch.round(x * 127 / largest), -128, 127)
    torch.testing.assert_close(bit(x), codes @ low.T * (gamma * largest / 127))


@pytest.mark.parametrize("name", ["ternary", "binary", "int_qat"])
def test_rounding_a_weight_passes_the_gradient_of_the_unrounded_map(name):
    options = {} if name == "int_qat" else {"activation_bits": None}
    rounds, x = linear_map(name, **options), values(4, 32)
    rounds(x).sum().backward()
    torch.testing.assert_close(rounds.weight.grad, x.sum(0).expand(24, 32))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("rounding", [symmetric, affine])
def test_small_and_zero_rows_quantise_to_finite_values_in_narrow_formats(dtype, rounding):
    x = torch.tensor([[0, 0, 1e-3], [0, 0, 0], [1, -2, 3]], dtype=dtype)
    for bits in (8, 16):
        rounded = rounding(x, bits)
        assert rounded.dtype == dtype
        torch.testing.assert_close(rounded, x, atol=0.02, rtol=0.01)
        assert (rounded[x == 0] == 0).all()


def test_a_matrix_of_zeros_stays_one():
    for name in ("ternary", "binary", "int_qat", "adaptive_bits"):
        zero = linear_map(name)
        with torch.no_grad():
            zero.weight.zero_()
            if name == "adaptive_bits":
                zero.width.fill_(0.5)
        assert not zero(values(2, 32)).any()


def test_the_loss_teaches_how_many_bits_are_worth_their_price():
    """d loss / d beta is the loss's slope along the weight of a bit more, and the price is added."""
    adaptive = linear_map("adaptive_bits", price=0.25)
    x, wanted = values(16, 32), values(16, 24)
    with torch.no_grad():
        adaptive.width.fill_(3.3 / 8)
    weight = adaptive.effective_weight()
    weight.retain_grad()
    (F.linear(x, weight) - wanted).square().sum().backward()
    lower, upper = (symmetric(adaptive.weight.detach(), bits) for bits in (3, 4))
    torch.testing.assert_close(weight.detach(), lower)
    torch.testing.assert_close(adaptive.width.grad, 8 * (weight.grad * (upper - lower)).sum()[None])


@pytest.mark.parametrize(("price", "more"), [(0.0, True), (10.0, False)])
def test_widths_grow_where_precision_helps_and_shrink_where_it_costs_more(price, more):
    chosen = {"name": "adaptive_bits", "initial": 3.0, "price": price}
    model = GPT.create(make_spec(linear=chosen, n_layer=1)).train()
    maps = [m for m in model.modules() if getattr(m, "name", "") == "adaptive_bits"]
    with torch.no_grad():
        for each in maps:
            each.weight.mul_(5)
    optimizer = torch.optim.Adam([each.width for each in maps], lr=0.02)
    for step in range(12):
        optimizer.zero_grad()
        loss_of(model, batch(seed=step % 2)).backward()
        optimizer.step()
        for each in maps:
            each.updated()
    mean = sum(each.bits().item() for each in maps) / len(maps)
    assert (mean > 3.0) is more
    formats = [next(iter(each.cost(Work(1, 1, 1)).narrow_params)) for each in maps]
    assert formats == [f"int{round(each.bits().item())}/g{each.in_features}" for each in maps]


def test_a_low_rank_map_starts_with_the_spread_of_a_full_one():
    wide = {"d_model": 256, "n_head": 4, "n_layer": 1}
    full = GPT.create(make_spec(**wide)).blocks[0].attention.q.effective_weight()
    narrow = GPT.create(make_spec(**wide, linear={"name": "low_rank", "rank": 64})).blocks[0].attention.q
    assert torch.linalg.matrix_rank(narrow.effective_weight()) == 64
    assert narrow.effective_weight().std().item() == pytest.approx(full.std().item(), rel=0.05)


def test_kan_edges_are_legendre_series_of_numpy():
    from numpy.polynomial.legendre import legval

    kan = part("linear", "kan_linear", 5, 3, "weight", False, degree=4).double()
    x = values(7, 5).double()
    series = kan.coefficients.detach().view(3, 4, 5)  # (out, k, in)
    expected = torch.zeros(7, 3, dtype=torch.float64)
    for o in range(3):
        for i in range(5):
            polynomial = legval(x[:, i].tanh().numpy(), [0.0, *series[o, :, i].tolist()])
            expected[:, o] += kan.weight[o, i].detach() * F.silu(x[:, i]) + torch.tensor(polynomial)
    torch.testing.assert_close(kan(x).detach(), expected)
    with pytest.raises(UserError, match="its functions are no weight"):
        kan.effective_weight()


@pytest.mark.parametrize(
    ("text", "bits"), [("int4/affine", 4), ("int4/g128/affine", 4 + 20 / 128), ("int8/g64/affine", 8 + 24 / 64)]
)
def test_a_zero_point_takes_a_code_per_group(text, bits):
    assert float(weight_format(text).stored_bits(16)) == bits
    assert weight_format(text).affine


def test_only_whole_numbers_have_zero_points():
    for text in ("nf4/g64/affine", "bf16/affine", "ternary/affine"):
        with pytest.raises(UserError, match="has no zero points; only whole numbers have"):
            weight_format(text)


def test_places_that_no_part_rounds_at_are_refused():
    with pytest.raises(UserError, match=r"sites.quantiser.probabilities: no part of this model asks for quantiser"):
        GPT.on_meta(make_spec(attention="identity", sites={"quantiser": {"probabilities": "int"}}))
    with pytest.raises(UserError, match=r"quantiser=int would be ignored by attention=identity, which rounds no activ"):
        GPT.on_meta(make_spec(attention="identity", quantiser="int"))


def test_products_say_what_their_operands_were_rounded_to():
    sites = {"quantiser": {"q": {"name": "int", "bits": 5}, "mlp_hidden": {"name": "int", "bits": 6}}}
    model = GPT.on_meta(make_spec(n_layer=1, sites=sites, linear="int_qat"))
    found = {
        path: [m.left_bits for m in cost.matmuls]
        for path, cost in model.cost(Work(1, 8, 8)).walk()
        if cost.matmuls and path.startswith("blocks")
    }
    assert found.pop("blocks.0.attention") == [5, None]
    assert found.pop("blocks.0.mlp.down") == [6]
    assert all(bits == [None] for bits in found.values())


def test_rounded_probabilities_take_the_explicit_path_and_hide_what_is_masked():
    sites = {"quantiser": {"probabilities": {"name": "int", "bits": 4, "scheme": "affine"}}}
    attention = GPT.create(make_spec(sites=sites)).blocks[0].attention
    assert attention.path == "explicit, for its quantiser=int of probabilities"
    scores = values(1, 4, 6, 6).masked_fill(torch.ones(6, 6, dtype=torch.bool).triu(1), -math.inf)
    weights = attention.weights(scores)
    assert (weights.triu(1) == 0).all()
    assert len((weights[0, 0, -1] * 1e5).round().unique()) <= 16


def test_what_is_rounded_twice_is_decoded_as_in_full():
    """Codes of one rounding lie exactly between those of the next: which side they take is no matter of a last bit."""
    around = {"quantiser": {"name": "int", "bits": 3, "scheme": "affine"}, "linear": "ternary"}
    CONTRACTS["cached"].check(Case.of("attention", "causal", {"with": around}))
