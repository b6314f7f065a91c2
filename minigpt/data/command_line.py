"""``key=value`` arguments of data/prepare.py, read strictly."""

from __future__ import annotations

import sys
import typing
from collections.abc import Sequence
from typing import Any

from minigpt.data.preparation import PrepareConfig, prepare
from minigpt.data.recipe import recipe_names
from minigpt.errors import UserError, did_you_mean
from minigpt.schema import typed


def main(arguments: Sequence[str], usage: str) -> int:
    """Prepare what the arguments say; returns the exit code: 0, or 2 after the message of a UserError."""
    if not arguments or {"-h", "--help"} & set(arguments):
        print(f"{usage}\ndatasets with a recipe: {', '.join(recipe_names())}")
        return 0 if arguments else 2
    try:
        prepare(read(arguments))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; nothing was changed", file=sys.stderr)
        return 130
    return 0


def read(arguments: Sequence[str]) -> PrepareConfig:
    """``["dataset=pydocs", ...]`` -> PrepareConfig. Text is taken as it stands: a glob or a name of digits is text."""
    values: dict[str, Any] = {}
    hints = typing.get_type_hints(PrepareConfig)
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals:
            near = f" Did you mean dataset={argument}?" if argument in recipe_names() else did_you_mean(argument, hints)
            raise UserError(f"'{argument}': expected key=value.{near}\n  keys: {', '.join(hints)}")
        if key in values:
            raise UserError(f"{key}: given twice")
        values[key] = value if str in _members(hints.get(key)) else _parsed(value)
    return typed(PrepareConfig, {key: value for key, value in values.items() if value is not None})


def _members(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) or (hint,)


def _parsed(value: str) -> Any:
    """A number, true, false or null; any other text as it is, for the schema to refuse."""
    words = {"true": True, "false": False, "null": None}
    if value.lower() in words:
        return words[value.lower()]
    try:
        return float(value)
    except ValueError:
        return value
