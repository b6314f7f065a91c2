"""Weight formats: what a name means, and what it says when it means nothing."""

from __future__ import annotations

from fractions import Fraction

import pytest

from minigpt.cost import Cost, Matmul
from minigpt.errors import UserError
from minigpt.formats import BASES, weight_format


@pytest.mark.parametrize(
    ("name", "bits"),
    [
        ("native", 8), ("fp32", 32), ("bf16", 16), ("fp8", 8), ("int8", 8), ("int3", 3),
        ("int4/g128", Fraction(33, 8)),  # 4 + 16 / 128
        ("int8/g768", 8 + Fraction(1, 48)), ("nf4", 4), ("nf4/g64", Fraction(17, 4)),  # 4 + 16 / 64
        ("ternary", 2), ("packed_ternary", Fraction(8, 5)), ("ternary/g256", Fraction(33, 16)), ("binary", 1),
    ],
)  # fmt: skip
def test_a_weight_takes_its_code_and_its_share_of_a_scale(name, bits):
    assert weight_format(name).stored_bits(native_bits=8) == bits


def test_every_base_is_its_own_name():
    assert all(weight_format(name).name == name for name in BASES)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ternery", r"no weight format 'ternery'. Did you mean 'ternary'.*choices: bf16, .*int2.*nf4"),
        ("int17", "no weight format 'int17'"),
        ("int04", "no weight format 'int04'"),
        ("", "no weight format ''"),
        ("int4/128", "expected int4/g<weights that share a scale>, such as int4/g128, or int4 alone"),
        ("int4/g0", "expected int4/g<"),
        ("int4/", "expected int4/g<"),
        ("int4/g12\n", "expected int4/g<"),
        ("bf16/g64", "bf16 has no scales to share"),
        ("native/g64", "native has no scales to share; write weight_format: native"),
    ],
)
def test_what_is_no_format_is_refused_with_the_way_out(text, message):
    with pytest.raises(UserError, match=f"(?s){message}"):
        weight_format(text)


def test_a_cost_in_a_format_nobody_knows_is_refused_where_it_is_made():
    with pytest.raises(UserError, match="no weight format 'ternery'"):
        Cost(weights_read={"ternery": 5})
    with pytest.raises(UserError, match="no weight format 'fp4'"):
        Cost(narrow_params={"fp4": 5})
    with pytest.raises(UserError, match="expected nf4/g<"):
        Matmul(1, 2, 3, weight_format="nf4/64")
