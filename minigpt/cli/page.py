"""``--help`` of every command: what it is, what it takes, and each key with the words of its schema."""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import re
import shutil
import sys
import textwrap
import typing
from collections.abc import Iterator
from typing import Any

from minigpt import presets, registry, schema
from minigpt.catalogue import in_words
from minigpt.cli import words
from minigpt.cli.choices import explorations, own_files
from minigpt.errors import UserError
from minigpt.shipped import CONF

_TOO_LONG = 44  # a key wider than this has its explanation below it


def help_page(config_name: str, root: type, doc: str) -> str:
    """The page of a command. doc: what it opens with; ``{this}`` in it is the command as it was typed."""
    defaults = _yaml(config_name)
    parts = [inspect.cleandoc(doc).replace("{this}", _this())]
    chosen = list(_choices(root, defaults))
    if chosen:
        parts.append("Choices (group=name)\n" + "\n".join(_line(*each) for each in chosen))
    keys = [_line(f"{key}={_said(default)}", meaning) for key, default, meaning in keys_of(root, defaults)]
    parts.append("Keys (key=value, or --key value)\n" + "\n".join(keys))
    parts.append("Flags\n" + "\n".join(_line(*each) for each in words.FLAGS.items()))
    return "\n\n".join(parts)


def keys_of(root: type, defaults: Any, path: str = "") -> Iterator[tuple[str, Any, str]]:
    """(dotted key, default, what it takes and means) of every plain key of a schema. defaults: what the command's file
    says of them, over the schema's."""
    known = schema.defaults(root) | (defaults if isinstance(defaults, dict) else {})
    explained = explanations(root)
    for name, hint in typing.get_type_hints(root, include_extras=True).items():
        said = ({name: ""} | known)[name]  # one without default has to be given
        group = next((m for m in words.members(hint) if dataclasses.is_dataclass(m)), None)
        if typing.get_origin(hint) is typing.ClassVar or _is_component(hint) or hint is type(None):
            continue  # the last is a group of files alone, and stands among the choices
        if group is not None and (isinstance(said, dict) or name not in explained):
            yield from keys_of(typing.cast(type, group), said, f"{path}{name}.")
        else:
            name_shown = f"{path}{name}" + (".<field>" if group is not None else "")
            yield name_shown, said, f"{in_words(hint)}: {explained[name]}" if name in explained else in_words(hint)


def explanations(root: type) -> dict[str, str]:
    """Key -> what the docstrings of a schema and of what it derives from say: ``name: text.`` or ``a, b: text.``"""
    found: dict[str, str] = {}
    for cls in reversed(root.__mro__):
        if not dataclasses.is_dataclass(cls) or not cls.__doc__:
            continue
        names = {field.name for field in dataclasses.fields(cls)}
        for paragraph in cls.__doc__.split("\n\n"):
            text = " ".join(paragraph.split())
            marks = [m for m in re.finditer(r"(?<!\S)((?:\w+, )*\w+): ", text) if set(m[1].split(", ")) <= names]
            for mark, following in itertools.zip_longest(marks, marks[1:]):
                end = following.start() if following else len(text)
                found |= dict.fromkeys(mark[1].split(", "), _in_yaml(text[mark.end() : end]))
    return found


def _in_yaml(text: str) -> str:
    """A docstring's words as the command line has them."""
    return re.sub(r"\bNone\b", "null", text.replace("``", "")).strip()


def _choices(root: type, defaults: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(group, its names, the default marked) of what a command composes."""
    taken = {key: word for each in _defaults_lists(defaults) for key, word in each.items()}
    for group, default in taken.items():
        names = {file.stem for file in (CONF / group).glob("*.yaml")} | set(own_files(group))
        names |= set(registry.names(group)) if group in presets.composition_order() else set()
        names |= set(explorations()) if group == "explorations" else set()
        yield f"{group}={default or 'null'}", ", ".join(sorted(names))


def _defaults_lists(content: dict[str, Any]) -> Iterator[dict[str, str]]:
    """The groups a file chooses from, and those of the files it starts from."""
    for each in ({"defaults": []} | content)["defaults"]:
        if each == "axes":
            yield from ({axis: registry.default(axis).name} for axis in presets.composition_order())
        elif isinstance(each, str) and each != "_self_":
            yield from _defaults_lists(_yaml(each))
        elif isinstance(each, dict) and not next(iter(each)).startswith("override"):
            yield each


def _yaml(name: str) -> dict[str, Any]:
    import yaml

    file = CONF / f"{name}.yaml"
    try:
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, OSError) as error:
        raise UserError(f"{file}: not YAML: {' '.join(str(error).split())[:200]}") from None


def _is_component(hint: Any) -> bool:
    return any(hasattr(mark, "read") for mark in typing.get_args(hint)[1:])


def _line(left: str, right: str) -> str:
    width = max(60, min(shutil.get_terminal_size((120, 40)).columns, 140))
    lines = textwrap.wrap(right, width - _TOO_LONG - 4, break_long_words=False) or [""]
    if len(left) > _TOO_LONG:
        lines = ["", *lines]
    first, *rest = lines
    return "\n".join([f"  {left:<{_TOO_LONG}}  {first}".rstrip(), *(" " * (_TOO_LONG + 4) + line for line in rest)])


def _said(value: Any) -> str:
    words = {None: "null", True: "true", False: "false"}
    if value is None or isinstance(value, bool):
        return words[value]
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(_said, value)) + "]"
    return repr(value)[1:-1] if isinstance(value, str) else str(value)


def _this() -> str:
    """The command as it was typed: ``minigpt train``, ``python train.py``."""
    program = sys.argv[0]
    return program if program.startswith("minigpt ") else f"python {program}"
