"""The steps of a cleaning, as a file of ``conf/clean/`` lists them: checked, in order, with a hash of what they do."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from minigpt import registry, schema
from minigpt.data.cleaning.base import Leakage, Step
from minigpt.errors import UserError, shown
from minigpt.registry import Spec

AXIS = "clean"


@dataclass(frozen=True)
class Steps:
    """label -> step, in the order in which they work. A label is the step's name, or one's own word for it."""

    specs: Mapping[str, Spec]

    def __bool__(self) -> bool:
        return bool(self.specs)

    def to_plain(self) -> dict[str, Any]:
        return {label: spec.to_plain() for label, spec in self.specs.items()}

    @property
    def hash(self) -> str:
        """Of what the steps do: their options, and their code."""
        code = {spec.name: registry.code_hash(AXIS, spec.name) for spec in self.specs.values()}
        content = json.dumps([list(self.to_plain().items()), code])
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def build(self) -> dict[str, Step]:
        """The steps themselves, by label. Raises UserError for options that make no sense together."""
        built: dict[str, Step] = {}
        for label, spec in self.specs.items():
            try:
                built[label] = registry.build(spec)
            except UserError as error:
                raise UserError(f"clean.{label}: {str(error).removeprefix('clean: ')}") from None
        for label, step in list(built.items())[:-1]:
            if isinstance(step, Leakage):
                raise UserError(
                    f"clean.{label}: has to be the last step: what is train and what is val is only known when all "
                    f"others are done. Move it to the end"
                )
        return built


class ReadSteps:
    """Annotation of a config field that holds steps: a mapping of labels to options, ``{length: {min_words: 20}}``. A
    label that is no step's name has a ``name`` among its options."""

    def read(self, node: Any, path: str) -> Steps:
        if isinstance(node, Steps):
            return node
        if node is None:
            return Steps({})
        if not isinstance(node, Mapping):
            raise UserError(
                f"{path}: expected steps with their options, such as {{length: {{min_characters: 200}}}}, got "
                f"'{shown(node)}'"
            )
        return Steps(dict(self._steps(node, path)))

    def paths(self, field: str) -> list[str]:
        """The keys of every step under its own name."""
        return [field, *(f"{field}.{name}.{key}" for name in registry.names(AXIS) for key in _options(name))]

    def _steps(self, node: Mapping[str, Any], path: str) -> Iterator[tuple[str, Spec]]:
        for label, given in node.items():
            given = {} if given is None else given
            if not isinstance(given, Mapping):
                raise UserError(f"{path}.{label}: expected options of the step, or {{}}, got '{shown(given)}'")
            if not str(label).isidentifier():
                raise UserError(f"{path}: '{shown(label)}': expected a step's name, or a word of letters, digits and _")
            yield str(label), registry.spec(AXIS, {"name": label} | dict(given), f"{path}.{label}")


def _options(name: str) -> list[str]:
    return list(schema.defaults(registry.entry(AXIS, name).config))
