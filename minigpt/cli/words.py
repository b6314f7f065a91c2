"""The grammar of every command: ``key=value``, ``--key value``, and a few flags; turned into what Hydra understands.

Text means itself. A key whose schema takes text (a path, a name, a prompt) has its value quoted here, so that ``=``,
``(``, spaces, commas and letters of any language in it are no grammar.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
import types
import typing
from collections.abc import Iterator
from typing import Annotated, Any

from minigpt import registry
from minigpt.cli.choices import groups, known_word
from minigpt.errors import UserError, did_you_mean, shown

FLAGS = {
    "--help": "this page",
    "--version": "of minigpt",
    "--cfg job": "print the configuration instead of doing anything",
    "--resolve": "with --cfg: interpolations resolved",
    "--config-dir <folder>": "a folder of your own beside conf/, laid out like it",
    "-m": "sweep: every combination of values with commas between them (train alone)",
}
"""The options of every command, beside its keys."""

_BARE = ("--help", "-h", "--version", "--resolve", "--multirun", "-m")
_WITH_VALUE = {"--cfg": "--cfg", "-c": "--cfg", "--config-dir": "--config-dir"}
_REPLACED = ("search.space",)
"""Keys whose group ``key={...}`` says anew; Hydra alone would add it to the group a file has."""

_NO_KEY = re.compile(r"[^\x21-\x7e]|[!?*(){}\[\]'\"`,;&|<>^%#\\]")
_HYDRAS = re.compile(r"\+{0,2}hydra([./@]|$)")
_HEEDED = ("hydra.mode", "hydra.sweeper.params")
_NO_TEXT = re.compile("[\0\ud800-\udfff]")
_CALL = re.compile(r"(choice|range|interval|glob|shuffle|sort|tag|int|float|str|bool|json_str)\(")


def in_hydras_words(arguments: list[str], root: type) -> list[str]:
    """A command line for Hydra: flags, then overrides. Raises UserError for what is no word of this grammar."""
    flags, pairs = _read(arguments, root)
    sweeping = bool({"-m", "--multirun"} & set(flags)) or any(key == "explorations" for key, _ in pairs)
    text, named = text_keys(root), groups()
    own = "--config-dir" not in flags  # Hydra finds the files there itself
    overrides = []
    for key, value in pairs:
        if key == "explorations" and value == "null":
            continue
        if key in named:
            overrides.append(f"{key}={_choice(key, _known(key, value, sweeping, own), sweeping)}")
        else:
            overrides += _override(key, value, text, sweeping)
    return flags + overrides


def plugins_named(arguments: list[str]) -> list[str]:
    """Plugins on the command line, read before Hydra composes: their names must be choices when it does."""
    value = ""
    for argument, following in itertools.zip_longest(arguments, arguments[1:], fillvalue=""):
        if found := re.fullmatch(r"(?:\+{0,2}|--)plugins=(.*)", argument, flags=re.DOTALL):
            value = found[1]
        elif argument == "--plugins":
            value = following
    return [name for each in value.strip("[]").split(",") if (name := each.strip().strip("'\""))]


def text_keys(root: type) -> dict[str, bool]:
    """Dotted key -> whether null is a value of it, for every key of ``root`` and of components that takes text."""
    found = dict(_text_fields(root, ""))
    for axis in registry.axes():
        for name in registry.names(axis):
            found |= dict(_text_fields(registry.entry(axis, name).config, f"{axis}."))
    return found


def _text_fields(schema: type, path: str) -> Iterator[tuple[str, bool]]:
    for name, hint in typing.get_type_hints(schema, include_extras=True).items():
        kinds = list(members(hint))
        for member in kinds:
            if dataclasses.is_dataclass(member):
                yield from _text_fields(typing.cast(type, member), f"{path}{name}.")
            elif member is str:
                yield f"{path}{name}", type(None) in kinds


def members(hint: Any) -> Iterator[Any]:
    """The types a value of this annotation may have: of a union each, without their marks."""
    if typing.get_origin(hint) is Annotated:
        yield from members(typing.get_args(hint)[0])
    elif typing.get_origin(hint) in (typing.Union, types.UnionType):
        for member in typing.get_args(hint):
            yield from members(member)
    else:
        yield hint


def _read(arguments: list[str], root: type) -> tuple[list[str], list[tuple[str, str]]]:
    """(flags, keys with their values) of a command line."""
    for argument in arguments:
        if _NO_TEXT.search(argument):
            raise UserError(f"{shown(argument, 60)}: a NUL, or bytes that are no UTF-8, are in no key and in no value")
    flags: list[str] = []
    pairs: list[tuple[str, str]] = []
    waiting = iter(arguments)
    for argument in waiting:
        head, equals, value = argument.partition("=")
        if not argument:
            raise UserError("an empty argument. Expected key=value; is a shell variable unset?")
        if re.search(r"\d{1000}", argument):
            raise UserError(f"{shown(head, 40)}: no number has a thousand digits")
        if head in _BARE:
            flags.append(head)
        elif head in _WITH_VALUE:
            flags += [_WITH_VALUE[head], value if equals else _next(waiting, head)]
        elif argument.startswith("--"):
            pairs.append(_long_option(head, value if equals else None, waiting, root))
        elif argument.startswith("~"):
            _refuse_deleting(head[1:], root)
            if equals or not head.strip("~+ "):
                raise UserError(f"'{shown(argument, 60)}': expected a key alone after ~, such as ~search.space.softmax")
            pairs.append((argument, ""))
        elif _HYDRAS.match(head):
            _refuse_foreign(head.lstrip("+"))
            pairs.append((argument, ""))
        elif equals and (odd := _NO_KEY.search(head.strip())):
            raise UserError(f"'{shown(head, 60)}': no key has '{odd[0]}' in it. Expected key=value")
        elif equals and head.strip("+ "):
            pairs.append((head.lstrip("+"), value))
        else:
            near = did_you_mean(argument, typing.get_type_hints(root))
            raise UserError(f"'{shown(argument, 60)}': expected key=value.{near} --help lists the keys")
    said = [key for key, _ in pairs]
    for key in said:
        if said.count(key) > 1:
            raise UserError(f"{shown(key, 60)}: given twice")
    if "--cfg" in flags and (asked := flags[flags.index("--cfg") + 1]) not in ("job", "hydra", "all"):
        raise UserError(f"--cfg: expected job, hydra or all, got '{shown(asked, 60)}'")
    return flags, pairs


def _refuse_deleting(key: str, root: type) -> None:
    """Raise UserError for taking away what would be filled in again without a word. What a group holds by names of the
    user's own (``search.space.softmax``) can be taken away."""
    first, *others = key.partition("@")[0].split(".")
    hint: Any = None
    if first not in groups():
        hint, others = root, [first, *others]
    elif others:
        hint = next((h for name, h in typing.get_type_hints(root, include_extras=True).items() if name == first), None)
    while others and (schema := next((m for m in members(hint) if dataclasses.is_dataclass(m)), None)) is not None:
        known = typing.get_type_hints(schema, include_extras=True)
        if others[0] not in known:
            return
        hint = known[others.pop(0)]
    if not others or hint is None:
        named = shown(key, 60)
        raise UserError(f"~{named}: cannot be taken away, it would take its default. Say {named}=<value>")


def _refuse_foreign(key: str) -> None:
    """Raise UserError for a setting of Hydra that nothing here heeds."""
    if not any(key == known or key.startswith(f"{known}.") for known in _HEEDED):
        raise UserError(f"{shown(key, 60)}: is not heeded here. Of Hydra's settings, {' and '.join(_HEEDED)} are")


def _long_option(head: str, value: str | None, waiting: Iterator[str], root: type) -> tuple[str, str]:
    """``--sort loss`` is ``sort=loss``; ``--json`` alone is ``json=true``."""
    key = head.removeprefix("--").replace("-", "_")
    hints = typing.get_type_hints(root, include_extras=True)
    if key not in hints and "." not in key:
        options = [f"--{name}" for name in hints]
        raise UserError(
            f"{shown(head, 60)}: there is no such option.{did_you_mean(head, options)} --help lists what there is"
        )
    if value is None:
        value = "true" if key in hints and bool in members(hints[key]) else _next(waiting, head)
    if key in hints and typing.get_origin(hints[key]) is list and not value.startswith("["):
        value = f"[{value}]"
    return key, value


def _next(waiting: Iterator[str], head: str) -> str:
    value = next(waiting, None)
    if value is None:
        raise UserError(f"{head}: expected a value after it")
    return value


def _override(key: str, value: str, text: dict[str, bool], sweeping: bool) -> list[str]:
    """One key in Hydra's grammar. All but choices of a group are forced in (``++``): unknown keys then reach our check,
    which says what was meant; Hydra would advise ``+key=value`` and then take that."""
    if key.startswith("~") or _HYDRAS.match(key):
        return [key]
    if key in text:
        value = _quoted(value, text[key], sweeping)
    return [f"++{key}=null"] * (key in _REPLACED) + [f"++{key}={value}"]


def _known(group: str, value: str, sweeping: bool, own: bool) -> str:
    """What is chosen of a group, a file of the user's own by the word that Hydra knows it by."""
    if _is_quoted(value) or _CALL.match(value) or value[:1] in ("[", "{"):
        return value
    words = [word.strip() for word in (value.split(",") if sweeping else [value])]
    return ",".join(known_word(group, word, own=own) for word in words)


def _choice(group: str, value: str, sweeping: bool) -> str:
    """The name chosen of a group. Raises UserError for several at once, of which only the last would count."""
    value = value.strip()
    if value[:1] in "[{" and value:
        names = ",".join(re.findall(r"[\w./-]+", value)) or "<name>,<name>"
        raise UserError(
            f"{group}: expected one name, got '{shown(value, 60)}'. To try several: -m {group}={shown(names, 60)}"
        )
    if "," in value and not sweeping and not _is_quoted(value):
        raise UserError(
            f"{group}: expected one name, got '{shown(value, 60)}'. To try several: -m {group}={shown(value, 60)}"
        )
    return _quoted(value, nullable=False, sweeping=sweeping)


def _quoted(value: str, nullable: bool, sweeping: bool) -> str:
    """A text in quotes, as it stands; in a sweep each of those with commas between them. What is in quotes already is
    left to Hydra, and so is a sweep's ``choice(...)``."""
    if _is_quoted(value) or (nullable and value == "null"):
        return value
    if sweeping and (_CALL.match(value) or value[:1] in ("[", "'", '"')):
        return value
    return ",".join(map(in_quotes, value.split(",") if sweeping else [value]))


def _is_quoted(value: str) -> bool:
    return len(value) > 1 and value[0] == value[-1] and value[0] in "'\""


def in_quotes(value: str) -> str:
    """Hydra's quoted string: a backslash counts as an escape only right before a quote (or at the end), and ``${`` is
    no interpolation."""
    value = re.sub(r"(\\*)\$\{", r"\1\1\\${", value)
    out, run = [], 0
    for character in value:
        if character == '"':
            out.append("\\" * run + "\\")  # double the run before a quote, and escape the quote
        out.append(character)
        run = run + 1 if character == "\\" else 0
    return '"' + "".join(out) + "\\" * run + '"'
