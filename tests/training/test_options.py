"""No option of an optimizer, schedule or task is ignored: changing one changes what training does."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from minigpt import registry
from minigpt.data.batch import Tokens
from minigpt.model import GPT, Output
from tests.cases import Case, option_cases
from tests.specs import make_spec


def built(case: Case, *args: Any) -> Any:
    options = {case.option: case.value} if case.option else {}
    return registry.build(registry.spec(case.axis, {"name": case.name} | options), *args)


def trace(case: Case) -> Any:
    """What the variant does, as values that compare: parameters after some steps, rates over a run, a loss."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(50, (2, 16), generator=generator)
    if case.axis == "schedule":
        schedule = built(case)
        return [schedule.factor(step, 100) for step in range(101)]
    if case.axis == "task":
        output = Output(torch.randn(2, 16, 50, generator=generator), {}, {}, {}, {})
        return built(case)(output, Tokens(tokens, tokens), 0).loss.item()
    model = GPT.create(make_spec(tie_embeddings=False))
    optimizer = built(case, dict(model.named_parameters()), model.roles())
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    for _ in range(4):
        model(tokens).logits.square().mean().backward()
        optimizer.step(scaler)
        optimizer.zero_grad()
    return torch.cat([p.detach().flatten() for p in model.parameters()]).tolist()


@pytest.mark.parametrize("case", option_cases(("optimizer", "schedule", "task")), ids=str)
def test_changing_an_option_changes_training(case):
    assert trace(case) != trace(Case(case.axis, case.name))
