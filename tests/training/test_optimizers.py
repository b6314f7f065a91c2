"""Every optimizer: holds every parameter once, decays only matrices, learns at its own default rate, resumes."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from minigpt import registry
from minigpt.model import GPT
from minigpt.testing import make_spec
from minigpt.training.optimizers.base import Optimizer
from minigpt.training.optimizers.muon import MuonInFp32

OPTIMIZERS = registry.names("optimizer")
NO_SCALER = torch.amp.GradScaler("cpu", enabled=False)


def build(name: str, model: GPT, **options) -> Optimizer:
    spec = registry.spec("optimizer", {"name": name, **options})
    return registry.build(spec, dict(model.named_parameters()), model.roles())


def small_model(**choices) -> GPT:
    return GPT.create(make_spec(**{"bias": True, "norm": "layernorm", "position": "learned"} | choices))


def a_step(model: GPT, optimizer: Optimizer) -> float:
    tokens = torch.arange(17).repeat(2, 1)
    logits = model(tokens[:, :-1]).logits
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
    loss.backward()
    optimizer.step(NO_SCALER)
    optimizer.zero_grad()
    return loss.item()


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
    losses = [a_step(model, optimizer) for _ in range(30)]
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
    model = small_model()
    optimizer = build(name, model)
    for _ in range(3):
        a_step(model, optimizer)
    twin = copy.deepcopy(model)
    torch.save(optimizer.state_dict(), tmp_path / "state.pt")
    other = build(name, twin)
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for _ in range(3):
        assert a_step(model, optimizer) == a_step(twin, other)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))


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


def test_muon_with_no_hidden_matrix_is_adamw():
    model = GPT.create(make_spec(attention="identity", mlp="identity"))
    assert [type(part) for part in build("muon", model).parts] == [torch.optim.AdamW]
    assert math.isfinite(a_step(model, build("muon", model)))


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
