"""Every optimizer: holds every parameter once, decays only matrices, learns at its own default rate, resumes."""

from __future__ import annotations

import copy
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from minigpt import config, registry
from minigpt.errors import UserError
from minigpt.model import GPT, Output
from minigpt.training.curvature import gauss_newton
from minigpt.training.fit import fit
from minigpt.training.optimizers.base import Optimizer
from minigpt.training.optimizers.muon import MuonInFp32
from minigpt.training.optimizers.packaged import packaged
from tests.training.steps import CPU, NO_SCALER, a_step, build, small_model
from tests.training.test_fit import same_metrics, weights
from tests.training.test_resume import die_at, stored

ROOT = Path(__file__).parents[2]
OPTIMIZERS = registry.names("optimizer")


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("tied", [True, False])
def test_every_parameter_is_in_exactly_one_group(name, tied):
    model = small_model(tie_embeddings=tied)
    held = [id(p) for group in build(name, model).groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in model.parameters())


def test_a_forgotten_parameter_is_an_error():
    parameters = dict(small_model().named_parameters())
    some = list(parameters.values())[1:]
    with pytest.raises(AssertionError, match="parameters in groups"):
        Optimizer([torch.optim.SGD(some, lr=0.1)], parameters)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_only_matrices_and_tables_decay(name):
    model = small_model(softmax={"name": "consmax", "per_head": True}, tie_embeddings=False)
    decays = {id(p): group["weight_decay"] > 0 for group in build(name, model).groups for p in group["params"]}
    for parameter_name, parameter in model.named_parameters():
        assert decays[id(parameter)] == (parameter_name.endswith("weight")), parameter_name


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_learns_one_batch_at_its_default_rate(name):
    model = small_model()
    optimizer = build(name, model)
    losses = [a_step(model, optimizer) for _ in range(60)]
    assert losses[-1] < 0.6 * losses[0]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_schedule_scales_every_base_rate_alike(name):
    optimizer = build(name, small_model())
    base = [group["lr"] for group in optimizer.groups]
    for factor in (0.5, 0.1, 1.0):
        optimizer.set_lr(factor)
        assert [group["lr"] for group in optimizer.groups] == [factor * lr for lr in base]
        assert optimizer.lr == factor * base[0]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_goes_on_from_its_state_bit_for_bit(name, tmp_path):
    """As a run does: saved while the weights are those to be used, which may be others than are trained."""
    model = small_model()
    optimizer = build(name, model)
    for _ in range(3):
        a_step(model, optimizer)
    optimizer.eval()
    twin = copy.deepcopy(model)
    torch.save(optimizer.state_dict(), tmp_path / "state.pt")
    other = build(name, twin)
    stored = torch.load(tmp_path / "state.pt", weights_only=True)
    assert other.mismatch(stored) == ""
    other.load_state_dict(stored)
    for each in (optimizer, other):
        each.train()
    losses = []
    for trained, moved in ((model, optimizer), (twin, other)):
        torch.manual_seed(0)  # what is drawn, as a run's generators are where they were
        losses.append([a_step(trained, moved) for _ in range(12)])
    assert losses[0] == losses[1]
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))


@pytest.mark.parametrize(
    ("name", "precision"),
    [("schedule_free", "fp32"), ("schedule_free", "fp16"), ("sophia", "fp16"), ("soap", "bf16"), ("prodigy", "fp32")],
)
def test_a_run_that_was_killed_goes_on_exactly(configure, name, precision):
    """With what an optimizer asks of the loop: other weights to answer with, curvature, accumulation, a scaler."""
    training = {"precision": precision, "gradient_accumulation": 2}
    changes = {"model": {"dropout": 0.2}, "optimizer": {"name": name}}
    whole = fit(configure(name="whole", training=training, **changes))
    folder = die_at(configure(training=training | {"checkpoint_interval": 7}, **changes), step=16)
    assert fit(stored(folder)).status == "completed"
    assert weights(folder) == weights(whole.folder)
    assert same_metrics(folder) == same_metrics(whole.folder)


def test_adamw_is_its_formula():
    model = small_model(n_layer=1)
    optimizer = build("adamw", model, lr=0.01, beta1=0.9, beta2=0.99, eps=1e-8, weight_decay=0.1)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 0.5)
    optimizer.step(NO_SCALER)
    roles = model.roles()
    for name, parameter in model.named_parameters():
        decay = 0.1 if roles[name] not in ("gain", "bias", "scalar") else 0.0
        expected = before[name] * (1 - 0.01 * decay) - 0.01 * 0.5 / (
            0.5 + 1e-8
        )  # first step: m and v without bias are g, g^2
        torch.testing.assert_close(parameter.detach(), expected, rtol=1e-5, atol=1e-6)


def test_muon_moves_hidden_matrices_alone_and_by_orthogonal_steps():
    model = small_model(n_layer=1)
    optimizer = build("muon", model, lr=0.1, weight_decay=0.0)
    muon = optimizer.parts[0]
    assert isinstance(muon, torch.optim.Muon)
    roles = model.roles()
    held = {id(p) for group in muon.param_groups for p in group["params"]}
    moved_by_muon = {name for name, p in model.named_parameters() if id(p) in held}
    assert moved_by_muon == {n for n, role in roles.items() if role in ("weight", "residual_out")}
    weight = model.get_parameter("blocks.0.attention.q.weight")
    before = weight.detach().clone()
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    optimizer.step(NO_SCALER)
    sizes = torch.linalg.svdvals((weight.detach() - before) / 0.1)
    assert sizes.max() < 1.3
    assert sizes.quantile(0.2) > 0.6  # Newton-Schulz brings every singular value that is not near zero near one


@pytest.mark.parametrize("name", ["muon", "soap"])
def test_a_method_of_matrices_with_no_hidden_matrix_to_move_is_refused_before_anything_is_written(
    configure, tmp_path, name
):
    with pytest.raises(UserError, match=f"optimizer={name}: moves matrices inside blocks, and none is trained here"):
        fit(configure(optimizer={"name": name}, attention={"name": "identity"}, mlp={"name": "identity"}))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["muon", "soap"])
def test_a_method_of_matrices_leaves_tables_vectors_and_the_head_to_adamw_at_its_own_rate(name):
    model = small_model(tie_embeddings=False)
    optimizer = build(name, model, lr=0.5, adamw_lr=0.25)
    rates = {id(p): group["lr"] for group in optimizer.groups for p in group["params"]}
    roles = model.roles()
    for parameter_name, parameter in model.named_parameters():
        hidden = roles[parameter_name] in ("weight", "residual_out")
        assert rates[id(parameter)] == (0.5 if hidden else 0.25), parameter_name


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"name": "sgd", "momentum": 0.0, "nesterov": True}, "nesterov: does nothing with momentum=0"),
        ({"name": "ademamix", "alpha": 0.0, "mix_steps": 5}, "beta3, mix_steps: do nothing with alpha=0"),
        ({"name": "ademamix", "mix_steps": 5, "beta1": 0.0}, "mix_steps: beta3 rises from beta1"),
        ({"name": "adafactor", "clip": 0.5}, "optimizer.clip: 0.5 is out of range, expected >= 1"),
        ({"name": "schedule_free", "beta1": 0.0}, "optimizer.beta1: 0.0 is out of range, expected > 0"),
        ({"name": "lion", "eps": 1e-8}, "'lion' has no option 'eps'"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(node, message):
    with pytest.raises(UserError, match=message):
        registry.spec("optimizer", node)


def test_an_option_that_the_package_would_forget_is_an_error():
    with pytest.raises(AssertionError, match="Lion does not read epsilon"):
        packaged("Lion", [{"params": [torch.nn.Parameter(torch.zeros(1))]}], epsilon=1.0)


def test_composing_needs_neither_torch_nor_the_package():
    code = (
        "import sys; from minigpt import registry; "
        "[registry.spec(axis, name) for axis in ('optimizer', 'schedule') for name in registry.names(axis)]; "
        "registry.spec('task', {'name': 'mixture', 'terms': {'a': {'name': 'focal'}}}); "
        "assert not {'torch', 'pytorch_optimizer'} & set(sys.modules), 'imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_gradient_that_is_not_finite_moves_nothing_whatever_part_it_falls_to(name):
    """And the next step is taken again. Scaling is fp16's, and what does not overflow is divided by the scale."""
    for spoilt in ("blocks.0.attention.q.weight", "final_norm.bias"):
        model = small_model(n_layer=1)
        optimizer = build(name, model)
        scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
        for finite in (False, True):
            before = [p.detach().clone() for p in model.parameters()]
            if optimizer.curvature:
                optimizer.curve([torch.ones_like(p) for p in model.parameters()])
            loss = model(torch.arange(16)[None]).logits.logsumexp(-1).mean()
            scaler.scale(loss).backward()
            bias = model.get_parameter("final_norm.bias")
            expected = bias.grad / scaler.get_scale()
            if not finite:
                model.get_parameter(spoilt).grad[0] = math.nan
            optimizer.unscale(scaler)
            assert not finite or torch.equal(bias.grad, expected)
            optimizer.step(scaler)
            scaler.update()
            optimizer.zero_grad()
            stayed = [torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True)]
            assert finite or all(stayed)
        assert all(p.isfinite().all() for p in model.parameters())
        assert name in ("soap", "adopt") or not all(stayed)  # whose first step only starts their statistics


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_state_of_another_shape_is_not_taken(name):
    one, other = small_model(n_layer=1), small_model(n_layer=1, d_model=64)
    optimizer = build(name, one)
    for _ in range(2):
        a_step(one, optimizer)
    assert build(name, small_model(n_layer=1)).mismatch(optimizer.state_dict()) == ""
    assert "shape" in build(name, other).mismatch(optimizer.state_dict())


def schedule_free_run(steps: int, **options) -> tuple[GPT, Optimizer]:
    model = small_model(n_layer=1)
    optimizer = build("schedule_free", model, **options)
    for _ in range(steps):
        a_step(model, optimizer)
    return model, optimizer


def test_schedule_free_answers_with_the_mean_of_all_its_steps_and_trains_on_as_if_nobody_had_asked():
    model, optimizer = schedule_free_run(3)
    undisturbed, _ = schedule_free_run(6)
    trained = [p.detach().clone() for p in model.parameters()]
    for _ in range(2):  # a validation inside a save asks once more
        optimizer.eval()
    answered = [p.detach().clone() for p in model.parameters()]
    assert any(not torch.equal(a, b) for a, b in zip(trained, answered, strict=True))
    optimizer.train()
    optimizer.train()
    assert all(torch.equal(a, b) for a, b in zip(trained, model.parameters(), strict=True))  # to the bit
    for _ in range(3):
        a_step(model, optimizer)
        optimizer.eval()
        optimizer.train()
    assert all(torch.equal(a, b) for a, b in zip(undisturbed.parameters(), model.parameters(), strict=True))


def test_sophia_asks_for_curvature_every_interval_of_steps_that_moved_something():
    model = small_model(n_layer=1)
    optimizer = build("sophia", model, interval=3)
    asked = []
    for _ in range(7):
        asked.append(optimizer.curvature)
        a_step(model, optimizer)
    assert asked == [True, False, False, True, False, False, True]


def test_the_curvature_of_a_model_that_is_linear_in_its_logits_is_the_gauss_newton_diagonal():
    """Of a table of logits, whose Gauss-Newton diagonal is known: share of the token times p (1 - p)."""
    generator = torch.Generator().manual_seed(0)
    table = torch.nn.Parameter(torch.randn(3, 5, generator=generator))
    tokens = torch.randint(0, 3, (4, 50), generator=generator)
    torch.manual_seed(0)
    model = lambda t: Output(table[t], {}, {}, {}, {})  # noqa: E731
    estimates = [gauss_newton(model, tokens, [table], CPU, NO_SCALER)[0] for _ in range(1000)]
    p = table.detach().softmax(-1)
    share = torch.bincount(tokens.flatten(), minlength=3)[:, None] / tokens.numel()
    torch.testing.assert_close(torch.stack(estimates).mean(0), share * p * (1 - p), rtol=0.15, atol=2e-4)
    assert table.grad is None


def test_muon_in_fp32_moves_as_torchs_does():
    model, twin = small_model(), small_model()
    hidden = [
        [m.get_parameter(n) for n, r in m.roles().items() if r in ("weight", "residual_out")] for m in (model, twin)
    ]
    theirs, ours = torch.optim.Muon(hidden[0], lr=0.02), MuonInFp32(hidden[1], lr=0.02)
    for step in range(3):
        for a, b in zip(*hidden, strict=True):
            a.grad = torch.randn(a.shape, generator=torch.Generator().manual_seed(step))
            b.grad = a.grad.clone()
        theirs.step()
        ours.step()
    for a, b in zip(*hidden, strict=True):
        torch.testing.assert_close(b, a, atol=2e-3, rtol=0)  # theirs multiplies in bf16
    assert [set(s) for s in ours.state_dict()["state"].values()] == [{"momentum_buffer"}] * len(hidden[0])


def test_muon_multiplies_in_fp32_where_nothing_multiplies_bf16(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    model = small_model()
    optimizer = build("muon", model)
    assert isinstance(optimizer.parts[0], MuonInFp32)
    losses = [a_step(model, optimizer) for _ in range(30)]
    assert losses[-1] < 0.6 * losses[0]


def test_the_exploration_tries_every_optimizer_at_its_default_rate_at_half_and_at_double():
    content = config.load_yaml(ROOT / "explorations" / "optimizer.yaml")
    tried: dict[str, list[dict]] = {}
    for node in content["hydra"]["sweeper"]["params"]["optimizer"]:
        tried.setdefault(node["name"], []).append({key: rate for key, rate in node.items() if key != "name"})
    assert sorted(tried) == OPTIMIZERS
    for name, nodes in tried.items():
        options = registry.spec("optimizer", name).options
        rates = {key: getattr(options, key) for key in ("lr", "adamw_lr") if hasattr(options, key)}
        expected = [{key: factor * rate for key, rate in rates.items()} for factor in (0.5, 1, 2)]
        assert nodes == [pytest.approx(each) for each in expected], name
