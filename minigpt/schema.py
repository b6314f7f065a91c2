"""Typed, frozen configuration: dataclasses as schemas, and the strict walk that turns plain data into them.

A schema is a dataclass made with :func:`options`. :func:`typed` reads nested plain data (dicts, lists, scalars - what a
YAML file holds) into it: every unknown key, wrong type and value out of range is a :class:`~minigpt.errors.UserError`
that names its path. :func:`plain` is the way back. Nothing here imports torch.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar, Union, dataclass_transform

from minigpt.errors import UserError, did_you_mean

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
        if math.isnan(value) or not (self.ge <= value <= self.le and self.gt < value < self.lt):
            raise UserError(f"{path}: {value} is out of range, expected {self}")

    def __str__(self) -> str:
        bounds = ((">=", self.ge), (">", self.gt), ("<=", self.le), ("<", self.lt))
        return " and ".join(f"{sign} {bound:g}" for sign, bound in bounds if math.isfinite(bound))


PositiveInt = Annotated[int, Range(ge=1)]
NonNegativeInt = Annotated[int, Range(ge=0)]
PositiveFloat = Annotated[float, Range(gt=0)]
NonNegativeFloat = Annotated[float, Range(ge=0)]
Probability = Annotated[float, Range(ge=0, lt=1)]  # of dropping something: 1 would drop everything
Fraction = Annotated[float, Range(ge=0, le=1)]


def typed(schema: type[T], node: Any, path: str = "") -> T:
    """Read plain data into ``schema``.

    schema: a class made with :func:`options`. node: a mapping. path: where the node stands, for messages.
    Raises UserError for a key the schema does not have, a missing key without default, a wrong type, a value out of
    range. A schema with an axis of its own rules checks them in ``__post_init__`` and raises UserError there.
    """
    if not isinstance(node, Mapping):
        raise UserError(f"{path or 'config'}: expected a group of keys, got {_show(node)}")
    fields = {f.name: f for f in dataclasses.fields(schema)}  # type: ignore[arg-type]
    collected = {name: list(mark.keys()) for name, mark in _collectors(typing.cast(type, schema)).items()}
    known = [key for name in fields for key in collected.get(name, [name])]
    for key in node:
        if key not in known:
            raise unknown_key(f"{path}.{key}" if path else str(key), str(key), known)
    hints = _hints(typing.cast(type, schema))
    values = {}
    for name, field in fields.items():
        where = f"{path}.{name}" if path else name
        if name in collected:
            values[name] = _collectors(typing.cast(type, schema))[name].read(
                {k: node[k] for k in collected[name] if k in node}, path
            )
        elif name in node:
            values[name] = _value(hints[name], node[name], where)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise UserError(f"{where}: missing, and it has no default")
    return schema(**values)


@functools.cache
def _hints(schema: type) -> dict[str, Any]:
    return typing.get_type_hints(schema, include_extras=True)


@functools.cache
def _collectors(schema: type) -> dict[str, Any]:
    """Field -> the mark that says which keys of the group it collects."""
    marks = {name: getattr(hint, "__metadata__", ()) for name, hint in _hints(schema).items()}
    return {name: mark for name, given in marks.items() for mark in given if hasattr(mark, "keys")}


def unknown_key(path: str, key: str, known: typing.Iterable[str]) -> UserError:
    """The error for a key no schema knows."""
    known = list(known)
    return UserError(f"{path}: unknown key '{key}'.{did_you_mean(key, known)}\n  keys here: {', '.join(known)}")


def plain(value: Any) -> Any:
    """Turn typed configuration back into dicts, lists and scalars that YAML and JSON hold. Inverse of :func:`typed`."""
    if value is None or isinstance(value, (str, int, float)):
        return value
    if hasattr(value, "to_plain"):
        return value.to_plain()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        collected = _collectors(type(value))
        return {
            key: content
            for f in dataclasses.fields(value)
            for key, content in (
                plain(getattr(value, f.name)).items()
                if f.name in collected
                else [(f.name, plain(getattr(value, f.name)))]
            )
        }
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
        if isinstance(mark, Range):
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
        return float(value)
    if kind is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        return value
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    raise UserError(f"{path}: expected {words.get(kind, kind.__name__)}, got {_show(value)}")


def _show(value: Any) -> str:
    return "nothing (null)" if value is None else f"'{value}' ({type(value).__name__})"
