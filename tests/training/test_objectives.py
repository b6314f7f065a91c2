"""Objectives, against their formulas."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from minigpt import registry

OBJECTIVES = registry.names("objective")


def build(name: str, **options):
    return registry.build(registry.spec("objective", {"name": name, **options}))


def a_batch(dtype=torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 5, 11, generator=generator).to(dtype).requires_grad_()
    return logits, torch.randint(0, 11, (2, 5), generator=generator)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_is_a_finite_scalar_with_a_gradient_for_every_logit(name):
    logits, targets = a_batch(torch.bfloat16)
    loss = build(name)(logits, targets)
    loss.backward()
    assert loss.shape == ()
    assert loss.dtype == torch.float32
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert (logits.grad != 0).all()


def test_cross_entropy_is_the_mean_surprise_of_the_targets():
    logits, targets = a_batch()
    surprise = -torch.log_softmax(logits, -1).gather(-1, targets[..., None]).mean()
    torch.testing.assert_close(build("cross_entropy")(logits, targets), surprise)


def test_z_loss_adds_the_squared_log_partition():
    logits, targets = a_batch()
    plain = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
    extra = torch.logsumexp(logits, -1).square().mean()
    torch.testing.assert_close(build("cross_entropy", z_loss=0.01)(logits, targets), plain + 0.01 * extra)


def test_equal_logits_cost_the_logarithm_of_the_vocabulary():
    assert float(build("cross_entropy")(torch.zeros(1, 3, 7), torch.tensor([[0, 3, 6]]))) == pytest.approx(math.log(7))
