"""The space of a greedy search: which keys may change, and the steps they can take from where they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from minigpt import presets, schema
from minigpt.config import TrainConfig
from minigpt.errors import UserError, shown
from minigpt.schema import PositiveFloat, options
from minigpt.search.keys import axis_of, value_at, word_at
from minigpt.search.points import refuse_swept


@options
class Step:
    """A number that goes up and down by adding ``step`` or multiplying by ``factor``, within ``min`` and ``max``."""

    step: PositiveFloat | None = None
    factor: PositiveFloat | None = None
    min: float | None = None
    max: float | None = None

    def __post_init__(self):
        if (self.step is None) == (self.factor is None):
            raise UserError("search.space: a number needs either step or factor")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise UserError(f"search.space: min {self.min:g} is above max {self.max:g}")
        if self.factor is not None and self.factor <= 1:
            raise UserError(f"search.space: factor must be above 1, got {self.factor:g}; down is division by it")

    def neighbours(self, key: str, value: Any) -> list[float]:
        """One step down and one up, where the bounds allow; a whole number stays whole."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UserError(f"search.space.{key}: '{value}' is not a number; names are listed: {{names: [...]}}")
        if self.step is not None:
            down, up = value - self.step, value + self.step
        else:
            assert self.factor is not None
            down, up = value / self.factor, value * self.factor
        found = [round(v) if isinstance(value, int) else v for v in (down, up)]
        low = -float("inf") if self.min is None else self.min
        high = float("inf") if self.max is None else self.max
        return [v for v in found if v != value and low <= v <= high]


@options
class Names:
    """A choice by name: every other name is one step away."""

    names: list[str]

    def neighbours(self, key: str, value: Any) -> list[str]:
        """All names but the present one."""
        return [name for name in self.names if name != value]


Space = Mapping[str, Step | Names]


@dataclass(frozen=True)
class Moves:
    """Annotation of a config field that says how a key may move: a Step, or Names, which a list is short for."""

    def read(self, node: Any, path: str) -> Step | Names:
        if isinstance(node, list | tuple):
            node = {"names": node}
        chosen: type[Step | Names] = Names if isinstance(node, Mapping) and "names" in node else Step
        return schema.typed(chosen, node, path)


def check_space(space: Space, base: TrainConfig) -> None:
    """Raise UserError for what could never be a step: a key of the whole search, an unknown name, half a layer."""
    for key, moves in space.items():
        path, value = f"search.space.{key}", value_at(base, key)
        if key == "seed":
            raise UserError(f"{path}: seeds are search.seeds and search.fresh_seeds")
        refuse_swept([key])
        if isinstance(moves, Names):
            if axis := axis_of(key):
                for name in moves.names:
                    presets.resolve(axis, name, path)
            if key.startswith("layers.") and key.count(".") == 1:
                _check_blocks(key, moves, base)
        elif isinstance(value, int) and moves.step is not None and moves.step != int(moves.step):
            raise UserError(f"{path}: {value} is a whole number, and so must its step be, not {moves.step:g}")


def _check_blocks(key: str, moves: Names, base: TrainConfig) -> None:
    """Raise UserError for a layer that is to become what is no block."""
    for name in moves.names:
        if name not in ("default", *base.blocks):
            raise UserError(
                f"search.space.{key}: there is no block named '{shown(name)}'. "
                f"For one part of the layer: {key}.<axis>, such as {key}.attention: [causal, gqa]"
            )


def start_of(space: Space, base: TrainConfig) -> dict[str, Any]:
    """Key -> where the search starts from: a number, or the one of the names that the configuration amounts to."""
    return {
        key: word_at(base, key, moves.names) if isinstance(moves, Names) else value_at(base, key)
        for key, moves in space.items()
    }


def steps(space: Space, base: TrainConfig, changes: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """(key, new value) of every single step from where ``changes`` have led, in the order of the space."""
    found = []
    here = start_of(space, base) | dict(changes)
    for key, moves in space.items():
        found += [(key, neighbour) for neighbour in moves.neighbours(key, here[key])]
    return found


def moved(changes: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    """``changes`` and one step more. A component that changes has its own defaults: options of the former one go."""
    kept = {k: v for k, v in changes.items() if not (axis_of(key) and k.startswith(f"{key}."))}
    return kept | {key: value}
