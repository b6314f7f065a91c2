"""Epochs: every block once, in an order that is as good as random and found for any row at once."""

from __future__ import annotations

import numpy as np
import pytest

from minigpt.data.dataset import open_dataset
from minigpt.data.order import block_at, blocks_of, permuted


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 65, 1000, 4096, 100_003])
def test_every_block_comes_once_in_every_epoch_and_in_another_order(size):
    first, second = (block_at(epoch * size + np.arange(size), size, seed=5) for epoch in (0, 1))
    assert sorted(first) == sorted(second) == list(range(size))
    if size > 7:
        assert (first != second).any()
        assert (first != block_at(np.arange(size), size, seed=6)).any()
        assert (first != block_at(np.arange(size), size, seed=5, source=1)).any()


def test_a_row_does_not_depend_on_what_is_asked_with_it():
    together = block_at(np.arange(500), 100, seed=1)
    assert [int(block_at(np.array([n]), 100, seed=1)[0]) for n in range(0, 500, 7)] == together[::7].tolist()


@pytest.mark.parametrize("size", [5, 37, 300])
def test_orders_are_uniform(size):
    """Over many seeds every block is as likely at every place, and followed by its neighbour no more than by chance."""
    orders = np.stack([permuted(np.arange(size), size, (seed, 0, 0)) for seed in range(1000)])
    for place in (0, size // 2, size - 1):
        counts = np.bincount(orders[:, place], minlength=size)
        expected = 1000 / size
        chi_squared = ((counts - expected) ** 2 / expected).sum()
        assert abs(chi_squared - (size - 1)) < 5 * np.sqrt(2 * size)
    following = (np.diff(orders, axis=1) == 1).mean()
    assert following == pytest.approx((size - 1) / size / (size - 1), rel=0.2)


def test_ten_billion_blocks_take_no_memory_and_no_time():
    import tracemalloc

    tracemalloc.start()
    found = block_at(np.arange(10**10 - 64, 10**10), 10**10, seed=0)
    assert len(set(found.tolist())) == 64
    assert found.max() < 10**10
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("batch_size", [1, 3, 8, 1000])
def test_an_epoch_has_every_block_of_the_split_once_under_any_batch_size(make, batch_size):
    path = make(tokenizer="byte")
    dataset = open_dataset("verse", path.parent, block_size=16, order="epochs")
    blocks = blocks_of(len(dataset.train), 16)
    rows = [
        row
        for step in range(-(-2 * blocks // batch_size))
        for row in dataset.train_batch(step, batch_size, 16, 3).inputs
    ]
    text = dataset.train[: blocks * 16].reshape(blocks, 16)
    for epoch in range(2):
        found = np.stack(rows[epoch * blocks : (epoch + 1) * blocks])
        assert sorted(map(bytes, found.astype(np.uint8))) == sorted(map(bytes, text.astype(np.uint8)))
    same = open_dataset("verse", path.parent, block_size=16, order="epochs")
    one_by_one = [same.train_batch(n, 1, 16, 3).inputs[0] for n in range(len(rows))]
    assert all((a == b).all() for a, b in zip(rows, one_by_one, strict=True))


def test_the_targets_of_a_block_are_the_tokens_after_its_inputs(make):
    dataset = open_dataset("verse", make().parent, block_size=16, order="epochs")
    batch = dataset.train_batch(5, 4, 16, 0)
    assert (batch.inputs[:, 1:] == batch.targets[:, :-1]).all()


def test_random_places_are_what_they_have_always_been(make):
    """Golden: what earlier runs trained on, digit for digit."""
    import hashlib

    dataset = open_dataset("verse", make(tokenizer="byte").parent, block_size=16)
    digest = hashlib.sha256()
    for step in range(20):
        batch = dataset.train_batch(step, 3, 16, 7)
        for tokens in (batch.inputs, batch.targets):
            digest.update(tokens.numpy().astype("<i8").tobytes())
    assert digest.hexdigest()[:16] == "92828a486ea7465a"
