"""Every registered variant of every model axis, at its defaults and with each of its options changed: what contracts
run over.

Nothing here names a variant: the next one is covered before it exists.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Annotated, Any, Literal

from minigpt import registry
from minigpt.model import ModelSpec
from tests.specs import make_spec

MODEL_AXES = (*registry.axes("block"), *registry.axes("model"))


@dataclasses.dataclass(frozen=True)
class Case:
    """One variant; option: which of its options is not at its default, and value: what it is instead."""

    axis: str
    name: str
    option: str | None = None
    value: Any = None

    def __str__(self) -> str:
        return f"{self.axis}={self.name}" + (f",{self.option}={self.value}" if self.option else "")

    def spec(self, **sizes: Any) -> ModelSpec:
        node = {"name": self.name} | ({self.option: self.value} if self.option else {})
        return make_spec(**{self.axis: node}, **sizes)


def variants() -> list[Case]:
    return [Case(axis, name) for axis in MODEL_AXES for name in registry.names(axis)]


def option_cases(axes: tuple[str, ...] = MODEL_AXES) -> list[Case]:
    """Each option of each variant, alone, at every other value of a closed choice or at one other number."""
    cases = []
    for axis in axes:
        for name in registry.names(axis):
            schema = registry.entry(axis, name).config
            hints = typing.get_type_hints(schema, include_extras=True)
            for field in dataclasses.fields(schema):
                for value in _others(hints[field.name], field.default):
                    cases.append(Case(axis, name, field.name, value))
    return cases


def _others(hint: Any, default: Any) -> list[Any]:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return [v for member in typing.get_args(hint) if member is not type(None) for v in _others(member, default)]
    if typing.get_origin(hint) is Annotated:
        hint = typing.get_args(hint)[0]
    if typing.get_origin(hint) is Literal:
        return [choice for choice in typing.get_args(hint) if choice != default]
    numbers = {bool: [True, False], int: [3, 2], float: [0.5, 0.25]}
    other = [v for v in numbers[hint] if v != default]
    return other if hint is bool else other[:1]
