"""The strict walk: what is not understood is an error that names its path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import pytest

from minigpt import registry
from minigpt.config import TrainConfig
from minigpt.errors import UserError, shown
from minigpt.registry import Parts, Spec
from minigpt.schema import (
    Count,
    FilePath,
    Name,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Range,
    check,
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


@options
class Holder:
    """A schema one of whose fields takes a key for every axis of the model."""

    first: int = 1
    parts: Annotated[Mapping[str, Spec], Parts("model")]
    foreign: ClassVar[Mapping[str, str]] = {"one": "first"}


def test_a_field_may_take_one_key_for_every_axis_of_a_scope():
    held = typed(Holder, {"init": {"name": "fan_in"}})
    assert set(held.parts) == set(registry.axes("model"))
    assert (held.parts["init"].name, held.parts["head"]) == ("fan_in", registry.default("head"))
    assert plain(held)["init"]["name"] == "fan_in"
    assert "parts" not in plain(held)
    assert typed(Holder, plain(held)) == held


@pytest.mark.parametrize(
    ("schema", "content", "message"),
    [
        (Holder, {"parts": {}}, r"parts: unknown key 'parts'.*\n  keys here: first, embedding, head, init"),
        (Holder, {"inti": "fan_in"}, r"inti: unknown key 'inti'\. Did you mean 'init'\?"),
        (Holder, {"one": 3}, r"one: unknown key 'one'\. Did you mean 'first'\?"),
        (Outer, {"width": 3}, r"width: unknown key 'width'\. Did you mean 'inner\.width'\?"),
        (Outer, {"inner": {"rate": 3}}, r"inner\.rate: unknown key 'rate'\. 'rate' stands at the top level\."),
        (TrainConfig, {"lr": 3}, r"lr: unknown key 'lr'\. Did you mean 'optimizer\.lr'\?"),
        (TrainConfig, {"n_layer": 3}, r"n_layer: unknown key 'n_layer'\. Did you mean 'model\.n_layer'\?"),
        (TrainConfig, {"batch_size": 3}, r"Did you mean 'training\.batch_size' or 'evaluate\.batch_size'\?"),
        (TrainConfig, {"dropout": 0.1}, r"Did you mean 'model\.dropout' or 'attention\.dropout'\?"),
        (TrainConfig, {"model": {"lr": 3}}, r"model\.lr: unknown key 'lr'\. Did you mean 'optimizer\.lr'\?"),
        (TrainConfig, {"norm": {"name": "rmsnorm", "lr": 3}}, r"norm\.lr: .*no option.*Did you mean 'optimizer\.lr'\?"),
        (TrainConfig, {"max_iters": 3}, r"Did you mean 'training\.max_steps'\?"),
        (TrainConfig, {"learning_rate": 3}, r"Did you mean 'optimizer\.lr'\?"),
        (TrainConfig, {"a\x1b[31m\nb": 3}, r"a\\x1b\[31m\\nb: unknown key 'a\\x1b\[31m\\nb'"),
    ],
)
def test_an_unknown_key_is_looked_for_in_the_whole_tree(schema, content, message):
    with pytest.raises(UserError, match=message):
        typed(schema, content)


def test_every_foreign_name_leads_to_a_key_there_is():
    for name, path in TrainConfig.foreign.items():
        with pytest.raises(UserError, match=f"Did you mean .*'{path}'"):
            typed(TrainConfig, {name: 1})


@pytest.mark.parametrize(
    ("hint", "value", "message"),
    [
        (int, 2**63, "x: 9223372036854775808 is more than 64 bits hold"),
        (int, -(10**400), r"x: -1000000000\d*\.\.\. is more than 64 bits hold"),
        (int, 10**5000, "x: a number too long to show is more than 64 bits hold"),
        (float, 10**400, r"x: 10000\d*\.\.\. is more than a number holds"),
        (PositiveFloat, 10**5000, "x: a number too long to show is more than a number holds"),
        (PositiveInt, 2**31, "x: 2147483648 is too large, at most 2147483647"),
        (PositiveInt, 1e300, "x: .* is more than 64 bits hold"),
        (Count, 2**63, "x: 9223372036854775808 is more than 64 bits hold"),
        (str, "a\0b", r"x: 'a\\x00b' holds what is no text"),
        (str, "a\udcff", r"x: 'a\\udcff' holds what is no text"),
        (Name, "", "x: '': expected one line"),
        (Name, "a\nb", r"x: 'a\\nb': expected one line"),
        (Name, "a\x1b[31mb", r"x: 'a\\x1b\[31mb': expected one line"),
        (Name, "\u202eabc", r"x: '\\u202eabc': expected one line"),
        (Name, "a" * 201, r"x: 'a{40}\.\.\.' is too long, a name has at most 200 bytes"),
        (Name, "\u00e9" * 101, "is too long"),
        (FilePath, "a/" * 501, "is too long"),
        (FilePath, "a/" + "b" * 201, "is too long"),
        (FilePath | None, "a\nb", "expected one line"),
    ],
    ids=shown,
)
def test_what_no_machine_holds_is_refused(hint, value, message):
    with pytest.raises(UserError, match=message):
        check(hint, value, "x")


@pytest.mark.parametrize(
    ("hint", "value"),
    [(int, 2**63 - 1), (float, 2**70), (Name, "été (1) = b"), (FilePath, "/data/x y/z"), (str, "two\nlines\x1b")],
)
def test_what_a_machine_holds_is_taken(hint, value):
    assert check(hint, value, "x") == value


def test_anything_is_shown_as_one_short_line():
    assert shown("a\n\x1b[31m\0") == r"a\n\x1b[31m\x00"
    assert shown("x" * 500) == "x" * 120 + "..."
    assert shown({"a": 1}) == "{'a': 1}"
    assert shown(10**5000) == "a number too long to show"
