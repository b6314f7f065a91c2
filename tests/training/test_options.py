"""No option of an optimizer, schedule or task is ignored: changing one changes what training does."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from minigpt import registry
from minigpt.data.batch import Tokens
from minigpt.errors import UserError
from minigpt.model import GPT, Output
from minigpt.testing import Case, all_cases, make_spec
from minigpt.testing.cases import cases_of, missing_choices
from tests.training.steps import a_step

VARIANTS = [(axis, name) for axis in registry.axes("run") for name in registry.names(axis)]


def built(case: Case, *args: Any) -> Any:
    return registry.build(registry.spec(case.axis, {"name": case.name} | case.changed), *args)


def trace(case: Case) -> Any:
    """What the variant does, as values that compare: parameters after some steps, rates over a run, a loss."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    tokens = torch.randint(50, (2, 16), generator=generator)
    if case.axis == "schedule":
        schedule = built(case)
        return [schedule.factor(step, 100) for step in range(101)]
    if case.axis == "task":
        logits, theirs = (torch.randn(2, 16, 50, generator=generator) for _ in range(2))
        task = built(case)
        task.models = {name: lambda tokens: Output(theirs, {}, {}, {}, {}) for name in task.checkpoints}
        return task(Output(logits, {}, {}, {}, {}), Tokens(tokens, tokens), 0).loss.item()
    model = GPT.create(make_spec(tie_embeddings=False))
    optimizer = built(case, dict(model.named_parameters()), model.roles())
    for _ in range(4):
        a_step(model, optimizer, torch.randint(50, (2, 17), generator=generator))
    return torch.cat([p.detach().flatten() for p in model.parameters()]).tolist()


@pytest.mark.parametrize("variant", VARIANTS, ids="=".join)
def test_every_option_is_in_a_case_of_its_class(variant):
    assert not missing_choices(*variant)


@pytest.mark.parametrize("case", [c for c in all_cases(VARIANTS) if not c.is_default], ids=str)
def test_changing_an_option_changes_training(case):
    for option in case.changed:
        assert outcome(case) != outcome(case.without(option)), option


def outcome(case: Case) -> Any:
    """What the variant does, or why it does nothing without an option it needs."""
    try:
        return trace(case)
    except UserError as error:
        return str(error)


@pytest.mark.parametrize("case", [cases_of(*variant)[-1] for variant in VARIANTS], ids=str)
def test_the_same_options_do_the_same_again(case):
    assert trace(case) == trace(case)
