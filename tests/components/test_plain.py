"""Every variant says what the simplest writing of its formula says: outputs and every gradient, in double precision."""

from __future__ import annotations

import pytest
import torch

from benchmarks.variants.plain import load, write_plainly
from minigpt import registry
from minigpt.testing import all_cases
from minigpt.testing.models import SIZES, batch, create, difference, loss_of, moved

TOKENS = 24
PLAIN = load()
ABSENT = {("position", "nope")}
"""What builds no part: there is nothing to write."""
AXES = sorted({axis for axis, _ in PLAIN})
CASES = [case for axis in AXES for case in all_cases([(axis, n) for n in registry.names(axis) if (axis, n) in PLAIN])]


def test_every_variant_has_a_plain_writing():
    assert [
        (axis, name) for axis in AXES for name in registry.names(axis) if (axis, name) not in {*PLAIN, *ABSENT}
    ] == []


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_variant_is_the_plain_writing_of_its_formula(case):
    found, losses = [], []
    for plainly in (False, True):
        model = moved(create(case.spec(**SIZES))).double().eval()
        assert not plainly or write_plainly(model, case.axis, case.name)
        loss = loss_of(model, batch(2, TOKENS))
        loss.backward()
        losses.append(loss.detach())
        found.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    ours, theirs = found
    assert difference(*losses) < 1e-9
    assert ours.keys() == theirs.keys()
    for name, gradient in ours.items():
        assert torch.isfinite(gradient).all(), name
        assert difference(gradient, theirs[name]) < 1e-7, name
