"""The registry: every part of a model has an axis and a name, and one class in one file is all it takes to add one.

An axis is a folder whose ``base.py`` declares it. Listing, schemas and defaults are read from the *source* of the
component files, without importing them: composing a configuration, ``--help`` and a typo's message need no torch. A
file whose source is not enough is imported; a class is when it is built. Names are resolved here and nowhere else; an
import path is never taken from a configuration.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from minigpt import schema, source
from minigpt.errors import UserError, shown, unknown
from minigpt.schema import UnknownKeyError

Scope = Literal["block", "model", "run", "list", "data"]
"""Who chooses on an axis: every block; a model, once; a training run; a list of any length in it; or the preparation of
data, as steps one after the other."""

_ROOTS = ("components", "training", "transforms", "data")
"""Rooms of this package whose folders may be axes."""


@dataclasses.dataclass(frozen=True)
class Axis:
    """A kind of part. default: the name taken when none is said, None for a list. package: of its files."""

    name: str
    default: str | None
    scope: Scope
    package: str


@dataclasses.dataclass(frozen=True)
class Entry:
    """What is known of a registered name without importing it."""

    axis: str
    name: str
    module: str
    doc: str
    config: Any  # the schema of its options, a dataclass
    aliases: tuple[str, ...] = ()
    qualname: str = ""

    @property
    def place(self) -> str:
        """Where the class stands."""
        return f"{self.module}.{self.qualname}"


@dataclasses.dataclass(frozen=True)
class Spec:
    """A component chosen by name, with its typed options: what a checked configuration holds for an axis."""

    axis: str
    name: str
    options: Any

    def to_plain(self) -> dict[str, Any]:
        return {"name": self.name} | schema.plain(self.options)

    def __reduce__(self) -> tuple[Any, ...]:
        return spec, (self.axis, self.to_plain())  # classes read from source have no module to be found in

    def __str__(self) -> str:
        given = schema.plain(self.options)
        default = schema.defaults(type(self.options))
        changed = [f"{k}={v}" for k, v in given.items() if k not in default or v != default[k]]
        return self.name + (f"({', '.join(changed)})" if changed else "")


@dataclasses.dataclass(frozen=True)
class Component:
    """Annotation of a config field that holds a component: ``Annotated[Spec, Component("optimizer")]``."""

    axis: str

    def read(self, node: Any, path: str) -> Spec:
        return spec(self.axis, node, path)

    def paths(self, field: str) -> list[str]:
        """The field and every option that a component there may have."""
        return [field, *(f"{field}.{option}" for option in options_of(self.axis))]


class Parts:
    """Annotation of a config field that holds one component for every axis of a scope, each at a key of its own:
    ``parts: Annotated[Mapping[str, Spec], Parts("block")]``. An axis that is not named takes its default."""

    def __init__(self, *scopes: Scope):
        self.scopes = scopes

    def keys(self) -> list[str]:
        """The keys it takes from the group it stands in."""
        return [axis for scope in self.scopes for axis in axes(scope)]

    def paths(self, field: str) -> list[str]:
        """Those keys and every option that a component there may have."""
        return [path for axis in self.keys() for path in Component(axis).paths(axis)]

    def read(self, node: Mapping[str, Any], path: str) -> dict[str, Spec]:
        where = f"{path}." if path else ""
        return {k: spec(k, node[k], f"{where}{k}") if k in node else default(k) for k in self.keys()}


_classes: dict[tuple[str, str], type] = {}
_plugin_axes: dict[str, Axis] = {}
_imported: dict[tuple[str, str], Entry] = {}
_plugin_entries: dict[tuple[str, str], Entry] = {}


def declare(name: str, *, default: str | None, scope: Scope) -> Axis:
    """Make ``name`` an axis. Said in its folder's ``base.py``, with literals, or in a plugin.

    Raises UserError when there is such an axis already.
    """
    own = _own_axes().get(name)
    if own is not None and (own.default, own.scope) == (default, scope):
        return own
    if scope not in ("block", "model"):
        raise UserError(f"axis '{name}': axes from outside are chosen by blocks or by the model: scope=block, model")
    if not name.isidentifier():
        raise UserError(f"axis '{shown(name)}': expected a word of letters, digits and _")
    new = Axis(name, default, scope, "")
    if own is not None or (name in _plugin_axes and _plugin_axes[name] != new):
        raise UserError(f"axis '{name}' is declared twice. Choose another name for the new one")
    return _plugin_axes.setdefault(name, new)


def register(axis: str, name: str, *, aliases: Iterable[str] = ()):
    """Class decorator: make a class selectable as ``axis=name``.

    Its options are a nested ``Config`` made with :func:`minigpt.schema.options`; without one it has none. A renamed
    variant lists its former names as ``aliases``, so that old configurations and checkpoints keep loading.
    Raises UserError for an unknown axis, a ``Config`` of another kind or a name that is taken.
    """

    def decorate(cls: type) -> type:
        declared = axis_named(axis)
        config = getattr(cls, "Config", schema.NoOptions)
        if not dataclasses.is_dataclass(config):
            raise UserError(f"{cls.__module__}.{cls.__qualname__}: its Config must be made with minigpt.schema.options")
        cls.axis, cls.name, cls.Config = axis, name, config  # type: ignore[attr-defined]
        new = Entry(axis, name, cls.__module__, cls.__doc__ or "", config, tuple(aliases), cls.__qualname__)
        _refuse_unusable(new)
        if not _is_own(declared, cls.__module__):
            _refuse_taken(new, _entries(axis))
            _plugin_entries[(axis, name)] = new
        _imported[(axis, name)] = new
        _classes[(axis, name)] = cls
        return cls

    return decorate


def axes(scope: Scope | None = None) -> list[str]:
    """The names of all axes, or of those of a scope, sorted within it."""
    return [axis.name for axis in _all_axes().values() if scope is None or axis.scope == scope]


def axis_named(name: str) -> Axis:
    """The axis of a name; raises UserError with the nearest when there is none."""
    if name not in _all_axes():
        raise unknown("axis", name, "there is no axis named", _all_axes())
    return _all_axes()[name]


def default(axis: str) -> Spec:
    """What is taken on an axis when nothing is said."""
    name = axis_named(axis).default
    assert name is not None, f"axis {axis} is a list"
    return spec(axis, name)


def names(axis: str) -> list[str]:
    """All names of an axis, sorted. Aliases are not listed."""
    return sorted(_entries(axis))


def options_of(axis: str) -> list[str]:
    """The options that any component of an axis has."""
    return list(dict.fromkeys(f.name for e in _entries(axis).values() for f in dataclasses.fields(e.config)))


def entry(axis: str, name: str, path: str = "") -> Entry:
    """What is known of ``axis=name``; raises UserError with the nearest name when there is none."""
    entries = _entries(axis)
    if name in entries:
        return entries[name]
    for each in entries.values():
        if name in each.aliases:
            return each
    raise unknown(path or axis, name, f"there is no {axis} named", entries)


def has(axis: str, name: str) -> bool:
    """Whether ``axis=name`` is registered, under this name or as an alias."""
    entries = _entries(axis)
    return name in entries or any(name in each.aliases for each in entries.values())


def get(axis: str, name: str) -> Any:
    """The class registered as ``axis=name``, importing its file if need be."""
    found = entry(axis, name)
    if (axis, found.name) not in _classes:
        importlib.import_module(found.module)
    return _classes[(axis, found.name)]


def spec(axis: str, node: Any, path: str = "") -> Spec:
    """Check a plain node ``{name: ..., option: ...}`` against the schema of the name it chooses."""
    path = path or axis
    if isinstance(node, Spec):
        return node
    if isinstance(node, str):
        node = {"name": node}
    if not isinstance(node, Mapping) or "name" not in node:
        example = (names(axis) or ["..."])[0]
        raise UserError(f"{path}: expected a component with a name, such as {{name: {example}}}, got '{shown(node)}'")
    found = entry(axis, str(node["name"]), f"{path}.name")
    given = {k: v for k, v in node.items() if k != "name"}
    known = [f.name for f in dataclasses.fields(found.config)]
    for key in given:
        if key not in known:
            raise _unknown_option(found, str(key), path, known)
    return Spec(axis, found.name, schema.typed(found.config, given, path))


schema.Choice.reader = spec


def build(chosen: Spec, *args: Any) -> Any:
    """Build the component a spec names: ``cls(config, *args)``."""
    cls = get(chosen.axis, chosen.name)
    config = cls.Config(**{f.name: getattr(chosen.options, f.name) for f in dataclasses.fields(chosen.options)})
    if not cls.__module__.startswith("minigpt."):
        _refuse_unbuildable(chosen, cls, (config, *args))
    return cls(config, *args)


def _refuse_unbuildable(chosen: Spec, cls: type, given: tuple[Any, ...]) -> None:
    """Raise UserError for a class of a plugin whose ``__init__`` does not take what its axis is built with."""
    owner = next(each for each in cls.__mro__ if "__init__" in vars(each))
    try:
        inspect.signature(cls).bind(*given)
        if owner.__module__.split(".")[0] not in ("torch", "builtins"):
            return
        what = "it has no __init__ of its own"
    except TypeError as error:
        what = f"its __init__ does not fit: {error}"
    words = " ".join(" ".join(each.__doc__ or "" for each in cls.__mro__[1:]).split())
    form = re.search(r"Built as ``cls(\([^`]*\))``", words)
    expected = f"__init__(self, {form[1][1:]}" if form else f"one that takes {len(given)} values"
    raise UserError(f"{chosen.axis}={chosen.name}: {cls.__module__}.{cls.__qualname__}: {what}. Expected {expected}")


@contextlib.contextmanager
def forgotten_afterwards() -> Iterator[None]:
    """Context in which what is registered and declared outside the package is known, and no longer."""
    tables: tuple[dict[Any, Any], ...] = (_classes, _imported, _plugin_axes, _plugin_entries)
    before = [dict(table) for table in tables]
    try:
        yield
    finally:
        for key in _plugin_entries:  # what the package registers is imported once and stays
            del _classes[key], _imported[key]
        _plugin_axes.clear()
        _plugin_entries.clear()
        for table, content in zip(tables, before, strict=True):
            table.update(content)


def code_hash(axis: str, name: str) -> str:
    """Hash of the code that makes ``axis=name`` what it is: its file, those of its bases and what they take from the
    rooms of components. Comments, docstrings and blank lines do not matter. Imports nothing."""
    found = entry(axis, name)
    return source.code_hash(found.module, axis_named(axis).package)


def _is_own(axis: Axis, module: str) -> bool:
    """Whether a module belongs to the folder of an axis, so that its source tells what it registers."""
    return bool(axis.package) and (module == axis.package or module.startswith(f"{axis.package}."))


def _refuse_unusable(new: Entry) -> None:
    """Raise UserError for a name that cannot be typed, and an option that would stand where the name does."""
    for each in (new.name, *new.aliases):
        if not re.fullmatch(r"[\w-]+", each):
            raise UserError(f"{new.axis}={shown(each)}: a name is made of letters, digits, _ and -")
    if any(field.name == "name" for field in dataclasses.fields(new.config)):
        raise UserError(f"{new.place}: an option cannot be called 'name', which is what chooses {new.name}")


def _refuse_taken(new: Entry, entries: Mapping[str, Entry]) -> None:
    """Raise UserError when another class has one of the names already."""
    for each in (new.name, *new.aliases):
        for other in entries.values():
            if each in (other.name, *other.aliases) and other.place != new.place:
                raise UserError(
                    f"{new.axis}={each}: {new.place} cannot take this name, {other.place} has it. Choose another one"
                )


def _unknown_option(found: Entry, key: str, path: str, known: list[str]) -> UserError:
    owners = [e.name for e in _entries(found.axis).values() if key in {f.name for f in dataclasses.fields(e.config)}]
    elsewhere = f". It is an option of {', '.join(owners)}" if owners else ""
    what = f"'{found.name}' has no option '{shown(key)}'{elsewhere}"
    return UnknownKeyError(f"{path}.{key}", key, known, what, f"options of {found.name}")


def _all_axes() -> dict[str, Axis]:
    return _own_axes() | _plugin_axes


@functools.cache
def _own_axes() -> dict[str, Axis]:
    """Every axis that a ``base.py`` of this package declares, those of the model's parts first."""
    found: dict[str, Axis] = {}
    for room in _ROOTS:
        for file in sorted((source.PACKAGE / room).glob("**/base.py")):
            for name, keywords in source.declarations(file):
                found[name] = Axis(name, package=source.module_of(file).rpartition(".")[0], **keywords)
    return found


def _entries(axis: str) -> dict[str, Entry]:
    axis_named(axis)
    return _index(axis) | {e.name: e for (a, _), e in _plugin_entries.items() if a == axis}


@functools.cache
def _index(axis: str) -> dict[str, Entry]:
    """What the files of an axis register, in its folder and one level below."""
    declared = axis_named(axis)
    found: dict[str, Entry] = {}
    if not declared.package:
        return found
    folder = source.PACKAGE.joinpath(*declared.package.split(".")[1:])
    for file in sorted([*folder.glob("*.py"), *folder.glob("*/*.py")]):
        for each in _entries_of(file):
            if each.axis != axis:
                raise UserError(f"{file}: registers {each.axis}={each.name}, but lies in the folder of axis '{axis}'")
            _refuse_unusable(each)
            _refuse_taken(each, found)
            found[each.name] = each
    return found


def _entries_of(file: Path) -> list[Entry]:
    """What a file registers: as its source says, or, where that is not enough, by importing it."""
    module = source.module_of(file)
    seen = list(source.registered(file))
    if all(each.config is not None for each in seen):
        return [Entry(e.axis, e.name, module, e.doc, e.config, e.aliases, e.qualname) for e in seen]
    try:
        importlib.import_module(module)
    except Exception as error:
        raise source.cannot_import(str(file), error) from None
    return [each for each in _imported.values() if each.module == module]
