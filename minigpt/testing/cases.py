"""What contracts run over: every variant as its class says it is to be tried.

A class names its cases itself, ``cases = [{"scaling": "yarn", "factor": 8}]``, so that no test has to guess a value.
"""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

from minigpt import registry
from minigpt.model import ModelSpec
from minigpt.testing.specs import make_spec


@dataclasses.dataclass(frozen=True)
class Case:
    """One variant with some of its options changed, in a model of house defaults and what ``surroundings`` says.

    options, surroundings: as JSON, so that a case is hashable: see :meth:`of`.
    """

    axis: str
    name: str
    options: str = "{}"
    surroundings: str = "{}"

    @classmethod
    def of(cls, axis: str, name: str, declared: Mapping[str, Any] | None = None) -> Case:
        """declared: options, and under ``with`` other axes and sizes: ``{"window": 4, "with": {"norm": "dyt"}}``."""
        options = dict(declared or {})
        around = options.pop("with", {})
        return cls(axis, name, json.dumps(options), json.dumps(around))

    @property
    def changed(self) -> dict[str, Any]:
        """The options that are not at their defaults."""
        return json.loads(self.options)

    @property
    def is_default(self) -> bool:
        return not self.changed

    def without(self, option: str) -> Case:
        """The same with one option back at its default."""
        kept = {key: value for key, value in self.changed.items() if key != option}
        return dataclasses.replace(self, options=json.dumps(kept))

    def default(self) -> Case:
        """The variant at its defaults, in the same surroundings."""
        return dataclasses.replace(self, options="{}")

    def spec(self, **sizes: Any) -> ModelSpec:
        """The model it is tried in; the surroundings it asks for come before ``sizes``."""
        node = {"name": self.name} | self.changed
        chosen = {"transforms": [node]} if self.axis == "transform" else {self.axis: node}
        return make_spec(**chosen | sizes | json.loads(self.surroundings))

    def __str__(self) -> str:
        around = [f"{key}={_short(value)}" for key, value in json.loads(self.surroundings).items()]
        options = [f"{key}={_short(value)}" for key, value in self.changed.items()]
        return ",".join([f"{self.axis}={self.name}", *options, *(f"with {each}" for each in around)])


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        inner = ",".join(f"{k}={_short(v)}" for k, v in value.items() if k != "name")
        return value.get("name", "") + (f"({inner})" if inner else "")
    return str(value).replace(" ", "")


def cases_of(axis: str, name: str) -> list[Case]:
    """The variant at its defaults, and every case its class declares.

    A declared case without options says in which surroundings the defaults are tried.
    """
    declared = [Case.of(axis, name, each) for each in getattr(registry.get(axis, name), "cases", ())]
    return declared if any(case.is_default for case in declared) else [Case(axis, name), *declared]


def all_cases(variants: Iterable[tuple[str, str]] | None = None) -> Iterator[Case]:
    """Every case of the given variants (None: of all that a model is made of), variant by variant.

    A class whose cases cannot be read has one, which breaks the contract about cases.
    """
    for axis, name in variants if variants is not None else model_variants():
        try:
            yield from cases_of(axis, name)
        except Exception:  # whatever a class may hold
            yield Case(axis, name)


def model_variants() -> list[tuple[str, str]]:
    """(axis, name) of everything a model is made of."""
    return [(axis, name) for axis in model_axes() for name in registry.names(axis)]


def model_axes() -> list[str]:
    """The axes a model is made of: those of a block, those of the whole, and its transforms."""
    return [axis for scope in ("block", "model", "list") for axis in registry.axes(scope)]


def missing_choices(axis: str, name: str) -> list[str]:
    """Options, and choices of an option of choices, that no case of the variant names."""
    config = registry.entry(axis, name).config
    hints = typing.get_type_hints(config, include_extras=True)
    tried: dict[str, list[Any]] = {field.name: [] for field in dataclasses.fields(config)}
    for case in cases_of(axis, name):
        for option, value in case.changed.items():
            tried[option].append(value)
    missing = []
    for field in dataclasses.fields(config):
        if not tried[field.name]:
            missing.append(field.name)
        elif typing.get_origin(hints[field.name]) is Literal:
            rest = [c for c in typing.get_args(hints[field.name]) if c != field.default and c not in tried[field.name]]
            missing += [f"{field.name}={choice}" for choice in rest]
    return missing
