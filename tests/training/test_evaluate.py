"""Validation: every target once, plain cross-entropy, whatever the batch size."""

from __future__ import annotations

import math

import pytest
import torch

from minigpt.data.dataset import open_dataset
from minigpt.device import Precision
from minigpt.model import GPT
from minigpt.testing import make_spec
from minigpt.training.evaluate import validate

FP32 = Precision("fp32", torch.device("cpu"))


@pytest.fixture
def dataset(data_folder):
    return open_dataset("words", str(data_folder), block_size=16, val_tokens=530)


@pytest.fixture
def model(dataset) -> GPT:
    return GPT.create(make_spec(vocab_size=dataset.vocab_size, dropout=0.5))


def test_is_the_mean_over_every_target_once(model, dataset):
    model.eval()
    tokens = torch.from_numpy(dataset.val.astype("int64"))
    nats = 0.0
    for start in range(0, len(tokens) - 1, 16):
        window = tokens[start : start + 17]
        logits = model(window[None, :-1]).logits.double()
        nats -= torch.log_softmax(logits, -1)[0].gather(1, window[1:, None]).sum().item()
    text = dataset.target_bytes(tokens[1:])
    found = validate(model, dataset, 4, 16, FP32)
    assert found.loss == pytest.approx(nats / (len(tokens) - 1), rel=1e-6)
    assert found.bits_per_byte == pytest.approx(nats / math.log(2) / text, rel=1e-6)


def test_batch_size_does_not_matter(model, dataset):
    losses = [validate(model, dataset, batch_size, 16, FP32).loss for batch_size in (1, 7, 1000)]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-6)


def test_runs_without_dropout_and_gradient_and_leaves_the_mode_as_it_was(model, dataset):
    model.train()
    assert validate(model, dataset, 4, 16, FP32) == validate(model, dataset, 4, 16, FP32)
    assert model.training
    assert all(p.grad is None for p in model.parameters())


def test_gives_up_when_asked(model, dataset):
    model.train()
    assert validate(model, dataset, 4, 16, FP32, give_up=lambda: True) is None
    assert model.training
