"""What every registered variant must hold, on every axis, at its defaults and with each option changed."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from minigpt import registry
from minigpt.cost import Work
from minigpt.model import GPT
from tests.cases import Case, option_cases, variants
from tests.specs import make_spec

TOKENS, VOCAB = 16, 50
VARIANTS, OPTIONS = variants(), option_cases()
ALL = VARIANTS + OPTIONS
every_case = pytest.mark.parametrize("case", ALL, ids=str)
every_variant = pytest.mark.parametrize("case", VARIANTS, ids=str)


def create(case: Case, **sizes) -> GPT:
    """A model in fp64 with parameters moved off their special first values (zeros, ones), the same each time.

    fp64 because a variant that rounds (quantisation) is not continuous: in fp32 two orders of summation may fall on two
    sides of a step, and a tolerance that forgives this would forgive a real difference too.
    """
    model = GPT.create(case.spec(**sizes))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model.double()


def batch(rows: int = 3, tokens: int = TOKENS) -> torch.Tensor:
    return torch.randint(0, VOCAB, (rows, tokens), generator=torch.Generator().manual_seed(2))


def loss_of(model: GPT, tokens: torch.Tensor) -> torch.Tensor:
    logits = model(tokens[:, :-1]).logits
    return F.cross_entropy(logits.flatten(0, 1).float(), tokens[:, 1:].flatten())


def decode(model: GPT, tokens: torch.Tensor, padding: torch.Tensor | None = None) -> torch.Tensor:
    """Logits by cached decode: prefill in two uneven chunks, then token by token."""
    state = model.new_state(len(tokens), padding=padding)
    chunks = [tokens[:, :5], tokens[:, 5:11], *tokens[:, 11:].split(1, dim=1)]
    return torch.cat([model(chunk, state).logits for chunk in chunks], dim=1)


@every_case
def test_builds_without_memory_and_leaves_nothing_there(case):
    shapes = {n: p.shape for n, p in GPT.on_meta(case.spec()).named_parameters()}
    model = GPT.create(case.spec())  # asserts that each parameter is initialised exactly once
    assert {n: p.shape for n, p in model.named_parameters()} == shapes
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        assert tensor.device.type == "cpu", name
        assert tensor.isfinite().all(), name


@every_case
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_parameter_receives_a_finite_gradient(case, precision):
    model = GPT.create(case.spec(dropout=0.1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    reached = dict.fromkeys(dict(model.named_parameters()), False)
    for _ in range(3):  # what starts at zero lets gradients through from the second step on
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = loss_of(model, batch())
        loss.backward()
        assert loss.isfinite()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, f"{name} is not part of the model's output"
            assert parameter.grad.isfinite().all(), name
            reached[name] |= bool((parameter.grad != 0).any())
        optimizer.step()
    assert all(reached.values()), [name for name, touched in reached.items() if not touched]


@every_case
@pytest.mark.parametrize("mode", ["train", "eval", "cached"])
def test_no_token_sees_the_future_and_each_sees_itself(case, mode):
    model = create(case).train(mode == "train")
    tokens = batch(rows=2)

    def run(model: GPT, tokens: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(0)  # the same dropout each time
        return decode(model, tokens) if mode == "cached" else model(tokens).logits

    with torch.no_grad():
        before = run(model, tokens)
        for t in (1, 7, TOKENS - 1):
            changed = tokens.clone()
            changed[:, t] = (changed[:, t] + 1) % VOCAB
            after = run(model, changed)
            assert (after[:, :t] - before[:, :t]).abs().max() <= 1e-6, f"token {t} changed what came before it"
            assert (after[:, t] - before[:, t]).abs().max() > 1e-4, f"token {t} does not see itself"


@every_variant
def test_learns_a_fixed_batch(case):
    model = GPT.create(case.spec())
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)  # what does not normalise takes no more
    first = loss = loss_of(model, batch())
    for _ in range(600):
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss = loss_of(model, batch())
        if loss < 0.6 * first:  # below what the tokens' frequencies alone would give
            return
    pytest.fail(f"the loss went from {first:.2f} to {loss:.2f} only")


@every_case
def test_cached_decode_equals_the_full_forward(case):
    model = create(
        case, bias=True
    ).eval()  # without biases small whole numbers make exact ties, which rounding may break
    tokens = batch()
    with torch.no_grad():
        torch.testing.assert_close(decode(model, tokens), model(tokens).logits, atol=1e-6, rtol=1e-6)


@every_case
def test_left_padding_changes_nothing_for_real_tokens(case):
    model = create(case, bias=True).eval()
    tokens, padding = batch(), torch.tensor([0, 2, 5])
    padded = torch.zeros_like(tokens)
    for row, p in enumerate(padding.tolist()):
        padded[row, p:] = tokens[row, : TOKENS - p]
    with torch.no_grad():
        full, cached = model(tokens).logits, decode(model, padded, padding)
    for row, p in enumerate(padding.tolist()):
        torch.testing.assert_close(cached[row, p:], full[row, : TOKENS - p], atol=1e-6, rtol=1e-6)


@every_case
@pytest.mark.parametrize("bias", [False, True])
def test_cost_counts_exactly_what_is_there(case, bias):
    model = GPT.create(case.spec(bias=bias, tie_embeddings=not bias)).eval()
    tokens = batch()
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        model(tokens)
    cost = model.cost(Work(3, TOKENS, TOKENS, dense=True, cache_bits=32))
    assert cost.total.params == sum(p.numel() for p in model.parameters())
    assert cost.flops == counter.get_total_flops()
    assert cost.total.state_bits == model.new_state(3).bits


@every_case
def test_a_decode_step_costs_what_its_place_in_the_prefill_does(case):
    """Causal counts add up: a prefill of T tokens is T decode steps; only weights are read once instead of T times."""
    model = GPT.on_meta(case.spec())
    prefill = model.cost(Work(1, TOKENS, TOKENS)).total
    steps = [model.cost(Work(1, 1, t + 1)).total for t in range(TOKENS)]
    assert prefill.macs == sum(step.macs for step in steps)
    assert prefill.params == steps[0].params
    for op, count in prefill.ops.items():
        assert count == sum(step.ops[op] for step in steps), op


@every_variant
def test_compiles_to_one_graph_with_the_same_numbers(case):
    model = create(case).eval()
    if not all(getattr(module, "compiles", True) for module in model.modules()):
        pytest.skip(f"{case} declares that it does not compile")
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    tokens = batch()
    torch.testing.assert_close(compiled(tokens).logits, model(tokens).logits, atol=1e-6, rtol=1e-6)


@every_case
def test_state_dict_round_trip_and_same_seed_same_parameters(case):
    first, second = GPT.create(case.spec()), GPT.create(case.spec())
    for (name, a), b in zip(first.named_parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b), name
    changed, second = create(case).eval(), second.double().eval()
    second.load_state_dict(copy.deepcopy(changed.state_dict()))
    torch.testing.assert_close(second(batch()).logits, changed(batch()).logits, atol=0, rtol=0)


@pytest.mark.parametrize("case", [c for c in ALL if c.axis != "init"], ids=str)
def test_swapping_one_component_leaves_all_other_first_values_alone(case):
    base, swapped = GPT.create(make_spec()), GPT.create(case.spec())
    same = dict(base.named_parameters())
    shared = [n for n, p in swapped.named_parameters() if n in same and same[n].shape == p.shape and case.axis not in n]
    assert shared
    for name in shared:
        assert torch.equal(swapped.get_parameter(name), same[name]), name


@pytest.mark.parametrize("case", OPTIONS, ids=str)
def test_no_option_is_ignored(case):
    """Changing an option changes an output or a cost, with or without model.bias; otherwise nothing reads it."""

    def traces(chosen: Case, bias: bool):
        model = create(chosen, bias=bias).train()
        torch.manual_seed(0)
        works = [Work(2, TOKENS, TOKENS, dense=dense) for dense in (True, False)]
        return model(batch()).logits, [model.cost(work) for work in works]

    changed = []
    for bias in (False, True):
        (logits, costs), (default_logits, default_costs) = traces(case, bias), traces(Case(case.axis, case.name), bias)
        changed.append(costs != default_costs or not torch.equal(logits, default_logits))
    assert any(changed)


@pytest.mark.parametrize("case", [c for c in VARIANTS if c.axis != "init"], ids=str)
def test_declared_uses_are_the_axes_really_built_from(case):
    spec = case.spec()
    cls = registry.get(case.axis, case.name)
    context = spec.context(0)
    arguments = {
        "norm": (32,), "linear": (32, 32, "weight", False), "activation": (32,), "residual": ("mlp",), "head": (None,),
        "position": (frozenset(registry.get("position", case.name).places) if case.axis == "position" else (), 8),
    }  # fmt: skip
    context.build(case.axis, *arguments.get(case.axis, ()))
    context.asked.pop(0)
    nested = context.used - cls.uses
    children = {a for axis in context.used for a in registry.get(axis, context.block.spec(axis).name).uses}
    assert cls.uses <= context.used
    assert nested <= children, f"builds from {nested} without declaring it"
