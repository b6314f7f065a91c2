"""MLPs beside transformers, scipy and their formulas, and what a mixture of experts routes, loses and reads."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.polynomial.legendre import legval

import minigpt
from minigpt.components.mlp.kan import bsplines, legendre
from minigpt.cost import Work
from minigpt.errors import UserError
from minigpt.exchange.huggingface import choose_family
from minigpt.model import GPT
from minigpt.testing import make_spec
from minigpt.testing.census import followed
from minigpt.testing.models import Mode, batch, loss_of, moved, other_tokens
from tests.components.parts import call, part, values

X = values(2, 16, 32)


def mlp(name, **options):
    """An MLP whose weights are of either sign."""
    built = part("mlp", name, **options)
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.sub_(1.0)
    return built


# Two and three matrices


def test_glu_is_llama_s_mlp():
    from transformers.models.llama.configuration_llama import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaMLP

    ours = mlp("glu", hidden=48)
    theirs = LlamaMLP(LlamaConfig(hidden_size=32, intermediate_size=48))
    theirs.load_state_dict({f"{each}_proj.weight": getattr(ours, each).weight for each in ("gate", "up", "down")})
    torch.testing.assert_close(ours(X, call()), theirs(X))


@pytest.mark.parametrize(("preset", "function"), [("swiglu", F.silu), ("geglu", F.gelu), ("reglu", F.relu)])
def test_a_preset_of_glu_has_the_activation_of_its_name_and_the_parameters_of_an_mlp(preset, function):
    sizes = {"vocab_size": 9, "d_model": 96, "n_head": 2, "n_layer": 1, "block_size": 8}
    glu = minigpt.build(mlp=preset, model=sizes).gpt.blocks[0].mlp
    x = values(2, 3, 96)
    gate, up, down = (m.weight for m in (glu.gate, glu.up, glu.down))
    torch.testing.assert_close(glu(x, call(0, 3)), F.linear(function(x @ gate.T) * (x @ up.T), down))
    assert sum(p.numel() for p in glu.parameters()) == 2 * 4 * 96 * 96


def test_an_mlp_is_pytorch_s_sequential():
    ours = mlp("mlp")
    theirs = torch.nn.Sequential(
        torch.nn.Linear(32, 128, bias=False), torch.nn.SiLU(), torch.nn.Linear(128, 32, bias=False)
    )
    theirs.load_state_dict({"0.weight": ours.up.weight, "2.weight": ours.down.weight})
    torch.testing.assert_close(ours(X, call()), theirs(X))


def test_identity_gives_zero_or_its_input():
    assert (mlp("identity")(X, call()) == 0).all()
    assert mlp("identity", output="input")(X, call()) is X


def test_dual_path_is_the_formula_and_soft_thresholding_in_a_special_case():
    dual = (
        GPT.create(make_spec(mlp={"name": "dual_path", "offset_init": 0.5, "hidden": 32}, activation="relu"))
        .blocks[0]
        .mlp
    )
    with torch.no_grad():
        dual.up.weight.copy_(torch.eye(32))
        dual.down.weight.copy_(torch.cat([torch.eye(32), -torch.eye(32)], dim=1))
    torch.testing.assert_close(dual(X, call()), F.softshrink(X, 0.5))


@pytest.mark.parametrize("chosen", [{"name": "kan"}, {"name": "dual_path"}, {"name": "dual_path", "gated": True}])
def test_at_its_defaults_it_has_the_parameters_of_an_mlp_of_expansion_4(chosen):
    built = GPT.on_meta(make_spec(d_model=96, mlp=chosen)).blocks[0].mlp
    assert sum(p.numel() for p in built.parameters() if p.ndim == 2) == 2 * 4 * 96 * 96


# Learned functions on the edges


def test_legendre_polynomials_are_numpy_s():
    x = torch.linspace(-1, 1, 101, dtype=torch.float64)
    for n, ours in enumerate(legendre(x, 9), start=1):
        np.testing.assert_allclose(ours, legval(x.numpy(), [0.0] * n + [1.0]), atol=1e-12)


@pytest.mark.parametrize(("grid", "degree"), [(5, 3), (1, 1), (4, 2), (7, 5)])
def test_b_splines_are_scipy_s_and_sum_to_one_at_both_ends_too(grid, degree):
    from scipy.interpolate import BSpline

    x = torch.linspace(-1, 1, 201, dtype=torch.float64)
    knots = torch.arange(-degree, grid + degree + 1, dtype=torch.float64)
    ours = bsplines((x + 1) * (grid / 2), knots, degree)
    theirs = BSpline(knots.numpy() * 2 / grid - 1, np.eye(grid + degree), degree)(x.numpy())
    np.testing.assert_allclose(ours, theirs, atol=1e-12)
    np.testing.assert_allclose(ours.sum(-1), 1.0, atol=1e-12)


@pytest.mark.parametrize("basis", ["legendre", "bspline"])
def test_a_kan_is_a_sum_of_functions_of_one_channel_each(basis):
    kan = mlp("kan", basis=basis).double()
    x = values(1, 3, 32).double()
    other = x.clone()
    largest = x.abs().argmax(dim=-1)[0]
    channels = [c for c in range(32) if c not in largest.tolist()][:2]
    with torch.no_grad():
        first = lambda x: kan.up(kan.edges(x, kan.base_in))  # noqa: E731
        changes = []
        for moved_channels in ([channels[0]], [channels[1]], channels):
            other = x.clone()
            other[..., moved_channels] *= 0.5
            changes.append(first(other) - first(x))
    torch.testing.assert_close(changes[0] + changes[1], changes[2])


def test_a_kan_normalises_each_token_alone_and_takes_a_zero_row():
    kan = mlp("kan")
    large = torch.cat([X[:, :8], 1e3 * X[:, 8:]], dim=1)
    torch.testing.assert_close(kan(large, call())[:, :8], kan(X, call())[:, :8], atol=0, rtol=0)
    zero = torch.zeros(1, 1, 32, requires_grad=True)
    kan(zero, call(0, 1)).sum().backward()
    assert zero.grad.isfinite().all()


# Mixtures of experts


def mixture(**options):
    return mlp("moe", **options)


def test_a_mixture_is_mixtral_s_block():
    from transformers.models.mixtral.configuration_mixtral import MixtralConfig
    from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock

    ours = mixture(experts=6, hidden=24)
    config = MixtralConfig(hidden_size=32, intermediate_size=24, num_local_experts=6, num_experts_per_tok=2)
    theirs = MixtralSparseMoeBlock(config)
    gate_up = torch.stack([torch.cat([e.gate.weight, e.up.weight]) for e in ours.experts])
    down = torch.stack([e.down.weight for e in ours.experts])
    theirs.load_state_dict(
        {"gate.weight": ours.router.weight, "experts.gate_up_proj": gate_up, "experts.down_proj": down}
    )
    torch.testing.assert_close(ours.eval()(X, call()), theirs.eval()(X), atol=1e-4, rtol=1e-4)


def test_a_shared_expert_is_for_every_token_and_a_sigmoid_scores_each_expert_alone():
    ours = mixture(experts=4, hidden=16, shared_experts=2, router="sigmoid").eval()
    found, rows = ours(X, call()), X.flatten(0, 1)
    assert ours.shared.hidden == 32
    scores = torch.sigmoid(rows @ ours.router.weight.T)
    for n, row in enumerate(rows[:8]):
        chosen = scores[n].argsort(descending=True)[:2]
        weights = scores[n, chosen] / scores[n, chosen].sum()
        expected = sum(w * ours.experts[e](row, call()) for w, e in zip(weights, chosen.tolist(), strict=True))
        torch.testing.assert_close(found.flatten(0, 1)[n], expected + ours.shared(row, call()))


def recorded(moe, x=X):
    here = call()
    moe.train()(x, here)
    return here


def test_losses_and_load_are_the_papers_formulas():
    moe = mixture(experts=5, balance=0.3, z_loss=0.2).double()
    here = recorded(moe, X.double())
    logits = X.flatten(0, 1).double() @ moe.router.weight.T
    p = logits.softmax(-1)
    f = torch.zeros(5).double()
    for row in p:
        for e in row.argsort(descending=True)[:2].tolist():
            f[e] += 1 / (2 * len(p))
    torch.testing.assert_close(here.metrics["expert_load"], f)
    torch.testing.assert_close(here.losses["balance"], 5 * (f * p.mean(0)).sum())
    torch.testing.assert_close(here.losses["router_z"], logits.exp().sum(-1).log().square().mean())
    assert here.weights == {"balance": 0.3, "router_z": 0.2}
    assert f.sum().item() == pytest.approx(1.0)


def test_even_loads_have_a_balance_loss_of_one_and_a_favourite_expert_more():
    moe = mixture(experts=4, top_k=2)
    with torch.no_grad():
        moe.router.weight.zero_()
        moe.router.weight[0] = 5 * X.mean((0, 1))
    x = X.mean((0, 1)).expand(1, 16, 32)
    assert recorded(moe, x).losses["balance"].item() > 1.5
    with torch.no_grad():
        moe.router.weight.zero_()
    assert recorded(moe, x).losses["balance"].item() == pytest.approx(1.0)


def test_the_balance_loss_evens_a_router_out():
    """Trained on nothing else, in a few steps."""
    moe = mixture(experts=4, balance=1.0)
    optimizer = torch.optim.SGD([moe.router.weight], lr=0.3)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = recorded(moe).losses["balance"]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 1.02 < losses[0]


def test_what_is_not_weighed_is_not_recorded_and_nothing_is_outside_of_training():
    assert not recorded(mixture(balance=0.0, z_loss=0.0)).losses
    here = call()
    mixture().eval()(X, here)
    assert not here.losses
    assert not here.metrics


def test_a_noisy_router_draws_in_training_only():
    moe = mixture(router="noisy")
    torch.manual_seed(0)
    assert torch.equal(moe.eval()(X, call()), moe(X, call()))
    assert not torch.equal(moe.train()(X, call()), moe(X, call()))
    assert mixture().noise is None


def test_an_expert_is_chosen_for_each_token_and_never_over_time():
    """Every token has exactly top_k experts, whatever other tokens choose."""
    moe = mixture(experts=4).eval()
    alone = torch.cat([moe(X[:, t : t + 1], call(t, 1)) for t in range(16)], dim=1)
    torch.testing.assert_close(moe(X, call()), alone)


def test_capacity_drops_the_latest_tokens_of_each_text():
    """Room for ceil(c T k / E): with every token the same, the first so many are served."""
    moe = mixture(experts=4, top_k=1, normalise=False, capacity=1.0).train()
    x = X[:1, :1].expand(2, 16, 32)
    found = moe(x, call())
    served = (found != 0).any(dim=-1)
    assert served[:, :4].all()
    assert not served[:, 4:].any()
    assert (moe.eval()(x, call()) != 0).any(dim=-1).all()


def test_capacity_leaks_no_future_and_no_other_text():
    moe = mixture(experts=4, top_k=2, capacity=0.7).train()
    found = moe(X, call())
    later = X.clone()
    later[:, 9:] = X[:, 9:].flip(1)
    torch.testing.assert_close(moe(later, call())[:, :9], found[:, :9])
    torch.testing.assert_close(moe(torch.cat([X[1:], X[1:]]), call())[1], found[1])


@pytest.mark.parametrize("expert", ["glu", "mlp"])
def test_active_parameters_are_those_of_one_mlp_and_all_of_them_are_counted(expert):
    model = GPT.on_meta(make_spec(d_model=96, mlp={"name": "moe", "experts": 8, "expert": expert}))
    moe, dense = model.blocks[0].mlp, 8 * 96 * 96
    one = sum(p.numel() for p in moe.experts[0].parameters())
    assert moe.top_k * one == dense
    cost = moe.cost(Work(1, 1, 50)).total
    router = 8 * 96
    assert cost.params == 8 * one + router
    assert cost.weights_read == {"native": 2 * one + router}  # a decode step reads two experts
    assert cost.macs == 2 * one + router
    prefill = moe.cost(Work(2, 16, 16)).total
    assert prefill.weights_read == {"native": 8 * one + router}
    assert prefill.macs == 32 * cost.macs


def test_a_decode_step_really_reads_the_weights_of_the_chosen_experts_alone():
    model = moved(GPT.create(make_spec(n_layer=1, mlp="moe"))).eval()
    tokens = batch(1, 1)
    with torch.no_grad(), followed(model, tokens) as trace:
        model(tokens)
    said = sum(model.cost(Work(1, 1, 1)).total.weights_read.values())
    assert trace.weights_read[0] == said


def test_experts_that_stay_idle_in_a_batch_still_have_a_gradient():
    model = GPT.create(make_spec(mlp={"name": "moe", "experts": 16, "hidden": 8}))
    loss_of(model, batch(1, 4)).backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("numbers", ["fp32", "bf16"])
def test_no_future_shows_where_experts_get_other_numbers_of_tokens(numbers):
    """Later tokens change how many rows an expert multiplies at once, in which the earlier ones are."""
    model = moved(GPT.create(make_spec(block_size=80, mlp={"name": "moe", "experts": 5})))
    for seed in range(4):
        tokens = batch(2, 80, seed)
        with Mode(2, 80, numbers).applied(model):
            before, after = model(tokens).logits, model(other_tokens(tokens, 40)).logits
        far = (after[:, :40] - before[:, :40]).abs().max() / before.abs().max()
        assert far <= 1e-6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top_k": 8}, r"mlp\.top_k: 8 of mlp\.experts=8 leaves nothing to choose\. Take at most 7"),
        ({"top_k": 1}, r"mlp\.normalise: the weight of a single expert would always be 1.*normalise=false"),
        ({"hidden": 8, "expansion": 2.0}, r"mlp\.expansion: does nothing beside mlp\.hidden"),
        ({"capacity": 4.0}, r"mlp\.capacity: 4 times top_k=2 gives each of experts=8 room for every token"),
    ],
)
def test_options_of_a_mixture_that_would_do_nothing_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        mixture(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"grid": 4}, r"mlp\.grid: .*mlp\.basis=bspline"),
        ({"hidden": 8, "expansion": 2.0}, r"mlp\.expansion: does nothing"),
    ],
)
def test_options_of_a_kan_that_would_do_nothing_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        mlp("kan", **options)


def test_expert_load_of_every_layer_and_the_losses_reach_the_output():
    output = GPT.create(make_spec(n_layer=2, mlp="moe"))(batch(2, 8))
    assert set(output.losses) == {"balance", "router_z"}
    assert set(output.metrics) == {"expert_load.0", "expert_load.1"}
    assert output.metrics["expert_load.0"].sum().item() == pytest.approx(1.0)


@pytest.mark.parametrize("name", ["moe", "kan", "dual_path"])
def test_what_no_other_project_has_is_refused_by_its_exporter(name):
    with pytest.raises(UserError, match=rf"no family of .*mlp.*{name}"):
        choose_family(GPT.create(make_spec(mlp=name)))
