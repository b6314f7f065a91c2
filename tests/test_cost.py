"""The cost record: counts of pairs, totals, and what it refuses."""

from __future__ import annotations

import pytest

from minigpt.cost import Cost, Matmul, Work, add_up, without_params
from tests.components.parts import part


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


def test_a_part_that_was_not_told_its_rows_cannot_be_priced():
    """A silent 0 would make the part free, and a search would love it."""
    for what in ("rows", "elements"):
        with pytest.raises(ValueError, match=rf"{what} of this call were not given.*work.over\(rows, elements\)"):
            getattr(Work(2, 3, 3), what)
    with pytest.raises(ValueError, match="elements of this call were not given"):
        part("norm", "rmsnorm", 32).cost(Work(2, 3, 3))


def test_zero_rows_are_zero_rows_and_a_linear_map_without_any_has_one_per_token():
    linear = part("linear", "ternary", 8, 4, "weight", False)
    assert Work(2, 3, 3).over(0, 0).rows == Work(2, 3, 3).over(0, 0).elements == 0
    assert linear.cost(Work(2, 3, 3).over(0, 0)).macs == 0
    assert not any(linear.cost(Work(2, 3, 3).over(0, 0)).ops.values())
    assert linear.cost(Work(2, 3, 3).over(5, 40)).macs == 5 * 8 * 4
    assert linear.cost(Work(2, 3, 3)).macs == 6 * 8 * 4


def test_what_another_place_owns_is_read_again_but_counted_once():
    weights = {"ternary": 12}
    leaf = Cost(params=12, narrow_params=weights, weights_read=weights, matmuls=(Matmul(1, 3, 4),), state_bits=7)
    owner = Cost(params=1, ops={"mul": 1}, parts={"a": Cost(parts={"b": leaf})})
    guest = without_params(owner)
    assert [path for path, _ in guest.walk()] == [path for path, _ in owner.walk()]
    total = Cost(parts={"0": owner, "1": guest}).total
    assert (total.params, total.narrow_params) == (13, weights)
    assert (total.weights_read, total.macs, total.state_bits) == ({"ternary": 24}, 24, 14)


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
