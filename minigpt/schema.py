"""Typed, frozen configuration: dataclasses as schemas, and the strict walk that turns plain data into them.

A schema is a dataclass made with :func:`options`. :func:`typed` reads nested plain data (dicts, lists, scalars - what a
YAML file holds) into it: every unknown key, wrong type and value out of range is a :class:`~minigpt.errors.UserError`
that names its path. :func:`plain` is the way back. Nothing here imports torch.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
import types
import typing
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar, Union, dataclass_transform

from minigpt.errors import UserError, closest, did_you_mean, shown

T = TypeVar("T")


@dataclass_transform(kw_only_default=True, frozen_default=True)
def options(cls: type[T]) -> type[T]:
    """Class decorator: a frozen, keyword-only dataclass, the form of every schema and every component's ``Config``."""
    return dataclasses.dataclass(frozen=True, kw_only=True)(cls)


@options
class NoOptions:
    """The options of a component that has none."""


@dataclasses.dataclass(frozen=True)
class Range:
    """Bounds of a number, for ``Annotated``: ``ge <= x <= le`` and ``gt < x < lt``."""

    ge: float = -math.inf
    le: float = math.inf
    gt: float = -math.inf
    lt: float = math.inf

    def check(self, value: float, path: str) -> None:
        inside = self.ge <= value <= self.le and self.gt < value < self.lt
        if value != value or not inside:
            raise UserError(f"{path}: {shown(value)} is out of range, expected {self}")

    def __str__(self) -> str:
        bounds = ((">=", self.ge), (">", self.gt), ("<=", self.le), ("<", self.lt))
        return " and ".join(f"{sign} {_digits(bound)}" for sign, bound in bounds if math.isfinite(bound))


@dataclasses.dataclass(frozen=True)
class Limit:
    """A bound, for ``Annotated``, that no sensible number comes near: what a machine could not hold or would choke on.
    It is not listed with an option, and told to who exceeds it."""

    most: int

    def check(self, value: float, path: str) -> None:
        if value > self.most:
            raise UserError(f"{path}: {shown(value)} is too large, at most {self.most}")

    def __str__(self) -> str:
        return ""


@dataclasses.dataclass(frozen=True)
class Line:
    """A text, for ``Annotated``, that stands in a path and on the screen: not empty, one line, nothing invisible.

    longest: bytes it may have in a path.
    """

    longest: int

    def check(self, value: str, path: str) -> None:
        if not value or not value.isprintable():
            raise UserError(f"{path}: '{shown(value)}': expected one line of letters, digits and signs")
        if len(value.encode()) > self.longest or any(len(part.encode()) > _LONGEST_NAME for part in value.split("/")):
            limit = min(self.longest, _LONGEST_NAME)
            raise UserError(f"{path}: '{shown(value, 40)}' is too long, a name has at most {limit} bytes")

    def __str__(self) -> str:
        return "of one line"


@dataclasses.dataclass(frozen=True)
class Choice:
    """Annotation of an option that is a component itself: ``Annotated[Any, Choice("task")]`` holds what is chosen."""

    axis: str
    reader: typing.ClassVar[typing.Callable[[str, Any, str], Any]]  # the registry's, which stands on this file

    def read(self, node: Any, path: str) -> Any:
        return Choice.reader(self.axis, node, path)


_LONGEST_NAME = 200  # file systems take 255 bytes, and what is written beside a name adds to it

Name = Annotated[str, Line(_LONGEST_NAME)]
FilePath = Annotated[str, Line(1000)]
PositiveInt = Annotated[
    int, Range(ge=1), Limit(2**31 - 1)
]  # of things a machine has: two of them multiply within 64 bits
NonNegativeInt = Annotated[int, Range(ge=0), Limit(2**31 - 1)]
Count = Annotated[int, Range(ge=1)]  # of steps or tokens
PositiveFloat = Annotated[float, Range(gt=0)]
NonNegativeFloat = Annotated[float, Range(ge=0)]
Probability = Annotated[float, Range(ge=0, lt=1)]  # of dropping something: 1 would drop everything
Fraction = Annotated[float, Range(ge=0, le=1)]

_SCALARS = (str, int, float, bool)
_LARGEST_INT = 2**63 - 1
_NO_TEXT = re.compile("[\0\ud800-\udfff]")


class UnknownKeyError(UserError):
    """A key that no schema knows. place: its whole path. near: what of ``known`` it resembles, as a question."""

    def __init__(self, place: str, key: str, known: typing.Iterable[str], what: str = "", listing: str = "keys here"):
        known = list(known)
        self.place, self.key, self.near = place, key, did_you_mean(key, known)
        self._what = what or f"unknown key '{shown(key)}'"
        self._listing = f"{listing}: {', '.join(known) or 'none'}"
        super().__init__(self._text(self.near))

    def among(self, paths: typing.Iterable[str], foreign: Mapping[str, str]) -> UnknownKeyError:
        """The same error, asking for the key of that name elsewhere. foreign: names that others use -> paths."""
        by_name: dict[str, list[str]] = {}
        for path in paths:
            by_name.setdefault(path.rpartition(".")[2], []).append(path)
        last = self.key.rpartition(".")[2]
        found = [p for p in by_name[last] if "." in p or not self.near] if last in by_name else []
        if last in foreign:
            found = list(dict.fromkeys([foreign[last], *found]))
        if not found and not self.near:
            found = by_name[nearest] if (nearest := closest(last, by_name)) else []
        if found:
            self.near = f" Did you mean {' or '.join(repr(p) for p in found[:3])}?"
            if found == [self.key]:
                self.near = f" '{self.key}' stands at the top level."
            self.args = (self._text(self.near),)
        return self

    def _text(self, near: str) -> str:
        return f"{shown(self.place)}: {self._what}.{near}\n  {self._listing}"


def typed(schema: type[T], node: Any, path: str = "") -> T:
    """Read plain data into ``schema``.

    schema: a class made with :func:`options`. node: a mapping. path: where the node stands, for messages.
    Raises UserError for a key the schema does not have, a missing key without default, a wrong type, a value out of
    range. A schema with an axis of its own rules checks them in ``__post_init__`` and raises UserError there. One with
    a ``foreign`` table (names that others use -> paths) suggests from it.
    """
    if path:
        return _typed(schema, node, path)
    try:
        return _typed(schema, node, path)
    except UnknownKeyError as error:
        raise error.among(paths(schema), getattr(schema, "foreign", {})) from None


def check(hint: Any, value: Any, path: str) -> Any:
    """Read one value as an annotation such as ``PositiveInt`` says."""
    return _value(hint, value, path)


def paths(schema: Any, before: str = "") -> list[str]:
    """Every key of ``schema``, dotted, those of groups and of components' options included."""
    found = []
    for name, hint in _hints(schema).items():
        if name not in {f.name for f in dataclasses.fields(schema)}:
            continue
        marks = [m for m in getattr(hint, "__metadata__", ()) if hasattr(m, "paths")]
        found += [f"{before}{key}" for mark in marks for key in mark.paths(name)] if marks else [f"{before}{name}"]
        found += paths(hint, f"{before}{name}.") if dataclasses.is_dataclass(hint) else []
    return found


def keys(schema: type) -> list[str]:
    """The keys of a group; raises UserError when a field that collects several takes one that is another's."""
    collectors = _collectors(schema)
    fields = [field.name for field in dataclasses.fields(schema)]
    if not collectors:
        return fields
    known = [key for name in fields for key in (collectors[name].keys() if name in collectors else [name])]
    for key in fields:
        if key not in collectors and known.count(key) > 1:
            raise UserError(f"axis '{key}': is a key of {schema.__name__} already. Choose another name for the axis")
    return known


def _typed(schema: type[T], node: Any, path: str) -> T:
    if not isinstance(node, Mapping):
        raise UserError(f"{path or 'config'}: expected a group of keys, got {_show(node)}")
    fields = {f.name: f for f in dataclasses.fields(schema)}  # type: ignore[arg-type]
    collectors, hints = _collectors(typing.cast(type, schema)), _hints(typing.cast(type, schema))
    collected = {name: list(mark.keys()) for name, mark in collectors.items()}
    known = keys(typing.cast(type, schema))
    for key in node:
        if key not in known:
            raise UnknownKeyError(f"{path}.{key}" if path else str(key), str(key), known)
    values = {}
    for name, field in fields.items():
        where = f"{path}.{name}" if path else name
        if name in collected:
            values[name] = collectors[name].read({k: node[k] for k in collected[name] if k in node}, path)
        elif name in node:
            values[name] = _value(hints[name], node[name], where)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise UserError(f"{where}: missing, and it has no default")
    return schema(**values)


@functools.cache
def _hints(schema: Any) -> dict[str, Any]:
    return typing.get_type_hints(schema, include_extras=True)


@functools.cache
def _names(schema: Any) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(schema))


@functools.cache
def _collectors(schema: Any) -> dict[str, Any]:
    """Field -> the mark that says which keys of the group it collects."""
    marks = {name: getattr(hint, "__metadata__", ()) for name, hint in _hints(schema).items()}
    return {name: mark for name, given in marks.items() for mark in given if hasattr(mark, "keys")}


def plain(value: Any) -> Any:
    """Turn typed configuration back into dicts, lists and scalars that YAML and JSON hold. Inverse of :func:`typed`."""
    if value is None or type(value) in _SCALARS or isinstance(value, (str, int, float)):
        return value
    if hasattr(value, "to_plain"):
        return value.to_plain()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        content: dict[str, Any] = {}
        collectors = _collectors(type(value))
        if collectors:
            keys(type(value))
        for name in _names(type(value)):
            each = plain(getattr(value, name))
            if name in collectors:
                content |= each
            else:
                content[name] = each
        return content
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return value


def defaults(schema: type) -> dict[str, Any]:
    """The default of every field of ``schema`` as plain values; a field without default is left out."""
    values = {}
    for field in dataclasses.fields(schema):
        if field.default is not dataclasses.MISSING:
            values[field.name] = plain(field.default)
        elif field.default_factory is not dataclasses.MISSING:
            values[field.name] = plain(field.default_factory())
    return values


def _value(hint: Any, value: Any, path: str) -> Any:
    """Read one value of any supported annotation."""
    if hint in _SCALARS:  # most are
        return _scalar(hint, value, path)
    origin = typing.get_origin(hint)
    if origin is Annotated:
        return _annotated(hint, value, path)
    if origin is Literal:
        return _literal(typing.get_args(hint), value, path)
    if origin in (Union, types.UnionType):
        return _union(typing.get_args(hint), value, path)
    if origin in (list, tuple):
        if not isinstance(value, (list, tuple)):
            raise UserError(f"{path}: expected a list, got {_show(value)}")
        return tuple(_value(typing.get_args(hint)[0], v, f"{path}[{i}]") for i, v in enumerate(value))
    if origin in (dict, Mapping) or origin is typing.get_origin(Mapping[str, int]):
        if not isinstance(value, Mapping):
            raise UserError(f"{path}: expected a group of keys, got {_show(value)}")
        return {str(k): _value(typing.get_args(hint)[1], v, f"{path}.{k}") for k, v in value.items()}
    if dataclasses.is_dataclass(hint):
        return value if isinstance(value, typing.cast(type, hint)) else typed(typing.cast(type, hint), value, path)
    if hint is Any:
        return value
    return _scalar(hint, value, path)


def _annotated(hint: Any, value: Any, path: str) -> Any:
    base, *marks = typing.get_args(hint)
    readers = [m for m in marks if hasattr(m, "read")]
    result = readers[0].read(value, path) if readers else _value(base, value, path)
    for mark in marks:
        if isinstance(mark, Range | Limit | Line):
            mark.check(result, path)
    return result


def _union(members: tuple[Any, ...], value: Any, path: str) -> Any:
    if value is None and type(None) in members:
        return None
    members = tuple(m for m in members if m is not type(None))
    if len(members) == 1:
        return _value(members[0], value, path)
    failures = []
    for member in members:
        try:
            return _value(member, value, path)
        except UserError as error:
            failures.append(str(error))
    raise UserError("; or ".join(failures))


def _literal(choices: tuple[Any, ...], value: Any, path: str) -> Any:
    for choice in choices:
        if value == choice and type(value) is type(choice):
            return choice
    names = [str(c) for c in choices]
    raise UserError(f"{path}: expected one of {', '.join(names)}, got {_show(value)}.{did_you_mean(value, names)}")


def _scalar(kind: type, value: Any, path: str) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = _as_float(value, path)
    if kind is int and isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        _refuse_unholdable(value, path)
        return value
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    raise UserError(f"{path}: expected {words.get(kind, kind.__name__)}, got {_show(value)}")


def _as_float(value: int, path: str) -> float:
    try:
        return float(value)
    except OverflowError:
        raise UserError(f"{path}: {shown(value, 24)} is more than a number holds") from None


def _refuse_unholdable(value: Any, path: str) -> None:
    """Raise UserError for what no machine's number or file name holds."""
    if isinstance(value, int) and abs(value) > _LARGEST_INT:
        raise UserError(f"{path}: {shown(value, 24)} is more than 64 bits hold")
    if isinstance(value, str) and not value.isprintable() and _NO_TEXT.search(value):
        raise UserError(f"{path}: '{shown(value)}' holds what is no text")


def _digits(bound: float) -> str:
    return str(bound) if isinstance(bound, int) else f"{bound:g}"


def _show(value: Any) -> str:
    return "nothing (null)" if value is None else f"'{shown(value)}' ({type(value).__name__})"
