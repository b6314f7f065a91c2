"""The cost record: counts of pairs, totals, and what it refuses."""

from __future__ import annotations

import pytest

from minigpt.cost import Cost, Matmul, Work, add_up


@pytest.mark.parametrize("past", range(5))
@pytest.mark.parametrize("tokens", range(1, 7))
@pytest.mark.parametrize("window", [None, 1, 2, 4, 20])
def test_pairs_are_what_counting_one_by_one_gives(past, tokens, window):
    work = Work(1, tokens, past + tokens)
    assert work.pairs(window) == sum(min(past + t + 1, window or 10**9) for t in range(tokens))


def test_pairs_follow_the_formulas_of_the_literature():
    assert Work(1, 1024, 1024).pairs() == 1024 * 1025 // 2
    assert Work(1, 1024, 1024).pairs(128) == 1024 * 128 - 128 * 127 // 2
    assert Work(1, 1024, 1024, dense=True).pairs(128) == 1024**2


def test_a_context_smaller_than_its_tokens_is_refused():
    with pytest.raises(ValueError, match="must hold the 4 new tokens too"):
        Work(1, 4, 3)


def test_totals_are_the_sum_of_all_parts():
    leaf = Cost(
        params=3, ops={"add": 2}, matmuls=(Matmul(2, 3, 4),), weights_read={"native": 5}, state_bits=7, passes=1
    )
    tree = Cost(params=1, ops={"mul": 1}, parts={"a": leaf, "b": Cost(parts={"c": leaf})})
    assert tree.total.params == 7
    assert tree.total.ops == {"add": 4, "mul": 1}
    assert tree.total.weights_read == {"native": 10}
    assert tree.total.state_bits == 14
    assert tree.macs == tree.total.macs == 48
    assert tree.flops == 96
    assert [path for path, _ in tree.walk()] == ["", "a", "b", "b.c"]
    assert add_up(own for _, own in tree.walk()) == tree.total


def test_useful_macs_replace_the_dense_count():
    assert Matmul(4, 8, 4, repeat=2).macs == 256
    assert Matmul(4, 8, 4, repeat=2, useful=100).macs == 100


def test_an_operation_no_hardware_prices_is_refused():
    with pytest.raises(ValueError, match=r"unknown operations \['sofmax'\]"):
        Cost(ops={"sofmax": 1})
