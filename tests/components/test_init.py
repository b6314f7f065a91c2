"""First values by role: their sizes and shapes, what is refused, and learning rates that go with them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from minigpt import registry
from minigpt.components.initialiser import Slot
from minigpt.errors import UserError
from minigpt.model import GPT
from minigpt.testing import make_spec
from minigpt.testing.models import batch, loss_of
from minigpt.training.optimizers.base import Optimizer

TABLES = ["gaussian", "hypercube", "random_hypercube", "hypersphere", "norm_range", "one_hot"]


def policy(name, **options):
    return registry.build(registry.spec("init", {"name": name} | options))


def filled(name, role, shape, *, layer=0, fan_in=None, **options):
    """A tensor that a policy has filled, in a model of 4 layers and 64 channels."""
    values = torch.empty(shape)
    slot = Slot("it", role, fan_in or shape[-1], shape[-2], layer, 4, 64, tuple(shape))
    policy(name, **options).fill(values, slot, torch.Generator().manual_seed(0))
    return values


@pytest.mark.parametrize(
    ("name", "role", "std"),
    [
        ("gpt2", "weight", 0.02),
        ("gpt2", "residual_out", 0.02 / math.sqrt(8)),
        ("depth_scaled", "weight", 0.02),
        ("depth_scaled", "residual_out", 0.02 / math.sqrt(6)),
        ("zero_out", "residual_out", 0.0),
        ("zero_out", "head", 0.0),
        ("zero_out", "weight", 0.02),
        ("fan_in", "weight", 1 / 20),
        ("fan_in", "embedding", 0.02),
        ("orthogonal", "embedding", 0.02),
        ("orthogonal", "weight", 1 / 20),
        ("mup", "weight", 1 / 20),
        ("mup", "residual_out", 1 / 20),
        ("mup", "head", 1 / 20 / math.sqrt(64 / 16)),
        ("mup", "embedding", 0.02),
    ],
)
def test_the_size_of_first_values_is_that_of_the_role(name, role, std):
    values = filled(name, role, (300, 400), layer=2, **({"base_width": 16} if name == "mup" else {}))
    assert values.std().item() == pytest.approx(std, rel=0.02)


def test_orthogonal_matrices_are_pytorch_s_and_keep_lengths():
    tall, wide = filled("orthogonal", "weight", (48, 16), gain=0.5), filled("orthogonal", "head", (16, 48))
    torch.testing.assert_close(tall.T @ tall, 0.25 * torch.eye(16))
    torch.testing.assert_close(wide @ wide.T, torch.eye(16))
    theirs = nn.init.orthogonal_(torch.empty(48, 16), 0.5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(tall, theirs)
    experts = filled("orthogonal", "weight", (3, 16, 16))
    torch.testing.assert_close(experts @ experts.mT, torch.eye(16).expand(3, 16, 16))
    assert not torch.equal(experts[0], experts[1])
    kernel = filled("orthogonal", "conv", (16, 1, 4)).flatten(1)
    torch.testing.assert_close(kernel.T @ kernel, torch.eye(4))


@pytest.mark.parametrize("name", TABLES)
def test_tables_of_all_kinds_have_entries_of_one_size_and_rows_that_differ(name):
    table = filled(name, "embedding", (200, 256), std=0.1)
    rows = 256 if name != "norm_range" else 256 * 13 / 12  # the mean square of lengths from 0.5 to 1.5
    assert table.square().sum(dim=1).mean().item() == pytest.approx(0.01 * rows, rel=0.05)
    assert len(torch.unique(table, dim=0)) == 200


def test_tables_are_what_their_names_say():
    table = filled("hypersphere", "embedding", (50, 32), std=0.1)
    torch.testing.assert_close(table.norm(dim=1), torch.full((50,), 0.1 * math.sqrt(32)))
    lengths = filled("norm_range", "embedding", (500, 32), std=0.1, shortest=0.2, longest=2.0).norm(dim=1)
    lengths = lengths / (0.1 * math.sqrt(32))
    assert 0.2 <= lengths.min() < 0.25
    assert 1.95 < lengths.max() <= 2.0
    for name in ("hypercube", "random_hypercube"):
        assert filled(name, "embedding", (50, 32), std=0.1).abs().unique().tolist() == [pytest.approx(0.1)]
    corner = filled("hypercube", "embedding", (50, 6), std=1.0)
    assert corner[37].tolist() == [1, -1, 1, -1, -1, 1]  # 37 = 0b100101, its lowest bit first
    torch.testing.assert_close(
        filled("one_hot", "embedding", (20, 32), std=0.1), 0.1 * math.sqrt(32) * torch.eye(20, 32)
    )


@pytest.mark.parametrize("rest", ["gpt2", "orthogonal"])
def test_a_policy_for_the_table_leaves_everything_else_to_another(rest):
    ours = GPT.create(make_spec(init={"name": "hypersphere", "rest": rest})).state_dict()
    theirs = GPT.create(make_spec(init=rest)).state_dict()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == ["embedding.weight"]


@pytest.mark.parametrize(
    ("chosen", "sentence"),
    [
        ({"init": "one_hot"}, "init=one_hot: 50 tokens need a channel each, the table is 32 wide"),
        (
            {"init": "hypercube", "embedding": {"name": "factorised", "rank": 5}},
            "init=hypercube: 50 tokens have numbers of 6 bits, a table of width 5",
        ),
        (
            {"init": {"name": "gaussian", "rest": "hypercube"}},
            "init.rest: 'hypercube' is about the embedding table, too",
        ),
        ({"init": {"name": "gaussian", "rest": "gpt3"}}, "init.rest.name: there is no init named 'gpt3'.*'gpt2'"),
        ({"init": {"name": "norm_range", "shortest": 2.0}}, "init.shortest: 2.0 is no less than init.longest=1.5"),
        ({"init": "mup"}, "init=mup: a tied head would .*Set model.tie_embeddings=false"),
        ({"init": {"name": "hypersphere", "rest": "mup"}}, "init=mup: a tied head"),
        (
            {"init": "hypersphere", "embedding": {"name": "table", "file": "a.npy"}},
            "init=hypersphere: the embedding starts from embedding.file, so there is no table to fill",
        ),
    ],
)
def test_what_a_policy_cannot_start_is_refused_when_the_model_is_built(chosen, sentence):
    with pytest.raises(UserError, match=sentence):
        GPT.on_meta(make_spec(**chosen))


@pytest.mark.parametrize(
    "chosen",
    [
        {"init": {"name": "gpt2", "std": 1e300}},
        {"init": {"name": "one_hot", "std": 1e39}, "d_model": 64},
        {"init": {"name": "norm_range", "longest": 1e300}},
        {"init": {"name": "random_hypercube", "std": 1e39}},
        {"init": {"name": "hypercube", "std": 1e39}},
        {"position": {"name": "fire", "c_init": 1e300}},
    ],
    ids=str,
)
def test_first_values_beyond_the_numbers_there_are_are_refused(chosen):
    with pytest.raises(UserError, match="beyond what numbers of 32 bits hold"):
        GPT.create(make_spec(**chosen))


class ByRate(Optimizer):
    moves_by_rate = True


def mup(width: int, **more) -> GPT:
    """A model as wide, of heads of 8 channels."""
    init = {"name": "mup", "base_width": 32} | more
    return GPT.create(make_spec(d_model=width, n_head=width // 8, tie_embeddings=False, init=init))


def test_mup_is_fan_in_at_its_base_width_and_slows_matrices_down_beyond():
    usual = GPT.create(make_spec(tie_embeddings=False, init="fan_in")).state_dict()
    assert all(torch.equal(tensor, usual[name]) for name, tensor in mup(32).state_dict().items())
    assert set(mup(32).rates().values()) == {1.0}
    wide = mup(128)
    found = {(role, wide.rates().get(name, 1.0)) for name, role in wide.roles().items()}
    assert found == {("weight", 0.25), ("residual_out", 0.25), ("head", 0.25), ("embedding", 1.0), ("gain", 1.0)}


def change_of_logits(model: GPT, rates: dict[str, float], steps: int = 4) -> float:
    """Root mean square of what some steps of Adam change."""
    parameters = dict(model.named_parameters())
    adam = ByRate([torch.optim.Adam(parameters.values(), lr=0.02)], parameters)
    adam.scale_rates(parameters, rates)
    before = model(batch()).logits.detach()
    for _ in range(steps):
        loss_of(model, batch()).backward()
        adam.parts[0].step()
        adam.zero_grad()
    return (model(batch()).logits.detach() - before).square().mean().sqrt().item()


def test_under_mup_logits_move_as_far_at_every_width():
    """The paper's coordinate check: without the rates, they move the farther the wider a model is."""
    ours = [change_of_logits(mup(width), mup(width).rates()) for width in (32, 256)]
    usual = [change_of_logits(mup(width, base_width=width), {}) for width in (32, 256)]
    assert ours[1] / ours[0] < 1.5
    assert usual[1] / usual[0] > 2.5


def test_rates_are_scaled_parameter_by_parameter_and_follow_the_schedule():
    parameters = {name: nn.Parameter(torch.ones(2)) for name in "abc"}
    optimizer = ByRate([torch.optim.Adam(parameters.values(), lr=0.1)], parameters)
    optimizer.scale_rates(parameters, {"b": 0.5})
    optimizer.set_lr(0.1)
    assert optimizer.lr == pytest.approx(0.01)
    rates = {id(p): group["lr"] for group in optimizer.groups for p in group["params"]}
    assert [rates[id(parameters[name])] for name in "abc"] == pytest.approx([0.01, 0.005, 0.01])
