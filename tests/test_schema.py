"""The strict walk: what is not understood is an error that names its path."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest

from minigpt.errors import UserError
from minigpt.schema import (
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Range,
    defaults,
    options,
    plain,
    typed,
)


@options
class Inner:
    width: PositiveInt = 4
    kind: Literal["wide", "narrow"] = "wide"


@options
class Outer:
    inner: Inner = Inner()
    rate: PositiveFloat = 0.1
    limit: NonNegativeInt | None = None
    share: Annotated[float, Range(ge=0, le=1)] = 0.5
    names: list[str] = ()  # type: ignore[assignment]
    table: dict[str, int] | None = None
    flag: bool = False
    label: str = "x"
    needed: int


def read(**content):
    return typed(Outer, {"needed": 1} | content)


def test_reads_nested_data_and_goes_back_to_it():
    content = {
        "inner": {"width": 2, "kind": "narrow"}, "rate": 1, "limit": 3, "share": 0.25,
        "names": ["a"], "table": {"b": 2}, "flag": True, "label": "y", "needed": 7,
    }  # fmt: skip
    value = typed(Outer, content)
    assert value.inner == Inner(width=2, kind="narrow")
    assert value.rate == 1.0
    assert isinstance(value.rate, float)
    assert plain(value) == content
    assert typed(Outer, plain(value)) == value


def test_is_frozen():
    with pytest.raises(AttributeError):
        read().rate = 2.0


def test_defaults_are_plain_and_leave_out_what_has_none():
    assert "needed" not in defaults(Outer)
    assert defaults(Outer)["inner"] == {"width": 4, "kind": "wide"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"inner": {"widht": 3}}, r"inner\.widht: unknown key 'widht'\. Did you mean 'width'\?"),
        ({"rat": 3}, r"rat: unknown key 'rat'\. Did you mean 'rate'\?"),
        ({"inner": 3}, r"inner: expected a group of keys, got '3' \(int\)"),
        ({"inner": {"width": 0}}, r"inner\.width: 0 is out of range, expected >= 1"),
        ({"inner": {"width": 2.5}}, r"inner\.width: expected a whole number, got '2\.5'"),
        ({"inner": {"width": True}}, r"inner\.width: expected a whole number, got 'True' \(bool\)"),
        ({"inner": {"width": None}}, r"inner\.width: expected a whole number, got nothing"),
        ({"inner": {"kind": "wid"}}, r"inner\.kind: expected one of wide, narrow, got 'wid'.*Did you mean 'wide'\?"),
        ({"rate": 0}, r"rate: 0\.0 is out of range, expected > 0"),
        ({"rate": "fast"}, r"rate: expected a number, got 'fast' \(str\)"),
        ({"rate": float("nan")}, r"rate: nan is out of range"),
        ({"share": 1.5}, r"share: 1\.5 is out of range, expected >= 0 and <= 1"),
        ({"names": "a"}, r"names: expected a list"),
        ({"names": ["a", 3]}, r"names\[1\]: expected text"),
        ({"table": {"b": "c"}}, r"table\.b: expected a whole number"),
        ({"flag": 1}, r"flag: expected true or false, got '1' \(int\)"),
        ({"label": 3}, r"label: expected text"),
    ],
)
def test_what_is_not_understood_is_refused_with_its_path(content, message):
    with pytest.raises(UserError, match=message):
        read(**content)


def test_a_missing_key_without_default_is_named():
    with pytest.raises(UserError, match="needed: missing, and it has no default"):
        typed(Outer, {})
