"""The registry: every part of a model has an axis and a name, and one class in one file is all it takes to add one.

Listing, schemas and defaults are read from the *source* of the component files (class docstring, ``Config``), without
importing them: composing a configuration, ``--help`` and a typo's message need no torch. The class itself is imported
when it is built. Names are resolved here and nowhere else; an import path is never taken from a configuration.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib
import importlib.util
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from minigpt import schema
from minigpt.errors import UserError, unknown

_COMPONENTS = (
    "attention", "softmax", "norm", "mlp", "activation", "position", "linear", "residual", "layout", "init",
)  # fmt: skip
BLOCK_AXES = _COMPONENTS[:-1]  # what a single block may choose for itself; the init policy is the model's

HOUSE_DEFAULTS = {
    "attention": "causal", "softmax": "softmax", "norm": "rmsnorm", "mlp": "glu", "activation": "silu",
    "position": "rope", "linear": "linear", "residual": "add", "layout": "pre_norm", "init": "gpt2",
    "optimizer": "adamw", "schedule": "cosine", "task": "next_token",
}  # fmt: skip
"""What ``python train.py`` takes on each axis; a test holds conf/train.yaml to it."""

AXES: dict[str, str] = {axis: f"minigpt.components.{axis}" for axis in _COMPONENTS} | {
    "optimizer": "minigpt.training.optimizers",
    "schedule": "minigpt.training.schedules",
    "task": "minigpt.training.tasks",
}
"""Axis name -> the package whose files register it."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """What is known of a registered name without importing it."""

    axis: str
    name: str
    module: str
    doc: str
    config: Any  # the schema of its options, a dataclass
    aliases: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Spec:
    """A component chosen by name, with its typed options: what a checked configuration holds for an axis."""

    axis: str
    name: str
    options: Any

    def to_plain(self) -> dict[str, Any]:
        return {"name": self.name} | schema.plain(self.options)

    def __str__(self) -> str:
        given = schema.plain(self.options)
        default = schema.defaults(type(self.options))
        changed = [f"{k}={v}" for k, v in given.items() if k not in default or v != default[k]]
        return self.name + (f"({', '.join(changed)})" if changed else "")


@dataclasses.dataclass(frozen=True)
class Component:
    """Annotation of a config field that holds a component: ``Annotated[Spec, Component("norm")]``."""

    axis: str

    def read(self, node: Any, path: str) -> Spec:
        return spec(self.axis, node, path)


_classes: dict[tuple[str, str], type] = {}
_plugin_entries: dict[tuple[str, str], Entry] = {}


def register(axis: str, name: str, *, aliases: Iterable[str] = ()):
    """Class decorator: make a class selectable as ``axis=name``.

    The class carries a nested ``Config`` made with :func:`minigpt.schema.options`; its names must come from
    ``minigpt.schema`` and its defaults be literals, so that the schema can be read without importing the file.
    A renamed variant lists its former names as ``aliases``, so that old configurations and checkpoints keep loading.
    Raises ValueError for an unknown axis, a missing ``Config`` or a name taken by another class.
    """
    if axis not in AXES:
        raise ValueError(f"unknown axis '{axis}'; axes are {', '.join(AXES)}")

    def decorate(cls: type) -> type:
        config = getattr(cls, "Config", None)
        if not dataclasses.is_dataclass(config):
            raise ValueError(f"{cls.__name__}: a component needs a nested Config made with minigpt.schema.options")
        for each in (name, *aliases):
            taken = _classes.get((axis, each))
            if taken is not None and taken.__qualname__ != cls.__qualname__:
                raise ValueError(f"{axis}={each} is already registered by {taken.__module__}.{taken.__qualname__}")
            _classes[(axis, each)] = cls
        cls.axis, cls.name = axis, name  # type: ignore[attr-defined]
        if not cls.__module__.startswith(AXES[axis]):
            entry = Entry(axis, name, cls.__module__, cls.__doc__ or "", config, tuple(aliases))
            _plugin_entries[(axis, name)] = entry
        return cls

    return decorate


def names(axis: str) -> list[str]:
    """All names of an axis, sorted. Aliases are not listed."""
    return sorted(_entries(axis))


def entry(axis: str, name: str, path: str = "") -> Entry:
    """What is known of ``axis=name``; raises UserError with the nearest name when there is none."""
    entries = _entries(axis)
    if name in entries:
        return entries[name]
    for each in entries.values():
        if name in each.aliases:
            return each
    raise unknown(path or axis, name, f"there is no {axis} named", entries)


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
        raise UserError(f"{path}: expected a component with a name, such as {{name: {names(axis)[0]}}}, got '{node}'")
    found = entry(axis, str(node["name"]), f"{path}.name")
    given = {k: v for k, v in node.items() if k != "name"}
    known = [f.name for f in dataclasses.fields(found.config)]
    for key in given:
        if key not in known:
            raise _unknown_option(found, key, path, known)
    return Spec(axis, found.name, schema.typed(found.config, given, path))


def build(chosen: Spec, *args: Any) -> Any:
    """Build the component a spec names: ``cls(config, *args)``."""
    cls = get(chosen.axis, chosen.name)
    config = cls.Config(**{f.name: getattr(chosen.options, f.name) for f in dataclasses.fields(chosen.options)})
    return cls(config, *args)


def load_plugins(modules: Iterable[str]) -> None:
    """Import outside modules that register components. They are found on sys.path and in the current folder."""
    for module in modules:
        if module in sys.modules:
            continue
        if str(Path.cwd()) not in sys.path:
            sys.path.append(str(Path.cwd()))
        try:
            found = importlib.util.find_spec(module)
        except ModuleNotFoundError:
            found = None
        if found is None:
            raise UserError(f"plugins: no module '{module}' on the Python path or in {Path.cwd()}")
        importlib.import_module(module)


def _unknown_option(found: Entry, key: str, path: str, known: list[str]) -> UserError:
    from minigpt.errors import did_you_mean

    owners = [e.name for e in _entries(found.axis).values() if key in {f.name for f in dataclasses.fields(e.config)}]
    near = did_you_mean(key, known)
    elsewhere = f" It is an option of {', '.join(owners)}." if owners and not near else ""
    return UserError(
        f"{path}.{key}: '{found.name}' has no option '{key}'.{near}{elsewhere}\n"
        f"  options of {found.name}: {', '.join(known) or 'none'}"
    )


def _entries(axis: str) -> dict[str, Entry]:
    if axis not in AXES:
        raise unknown("axis", axis, "there is no axis named", AXES)
    own = {e.name: e for (a, _), e in _plugin_entries.items() if a == axis}
    return _index(axis) | own


@functools.cache
def _index(axis: str) -> dict[str, Entry]:
    """Read the component files of an axis as source: every class decorated with ``@register(axis, name)``."""
    package = AXES[axis]
    folder = Path(__file__).parent.joinpath(*package.split(".")[1:])
    found: dict[str, Entry] = {}
    for file in sorted(folder.glob("*.py")):
        module = package if file.stem == "__init__" else f"{package}.{file.stem}"
        for node in ast.parse(file.read_text(encoding="utf-8"), str(file)).body:
            if isinstance(node, ast.ClassDef):
                for each in _read_class(node, axis, module):
                    if each.name in found:
                        raise ValueError(f"{axis}={each.name} is registered in {found[each.name].module} and {module}")
                    found[each.name] = each
    return found


def _read_class(node: ast.ClassDef, axis: str, module: str) -> list[Entry]:
    entries = []
    for decorator in node.decorator_list:
        if isinstance(decorator, ast.Call) and getattr(decorator.func, "id", "") == "register":
            registered_axis, name = (ast.literal_eval(a) for a in decorator.args)
            keywords = {k.arg: ast.literal_eval(k.value) for k in decorator.keywords}
            if registered_axis != axis:
                raise ValueError(f"{module}: registers on axis '{registered_axis}' but lies in the folder of '{axis}'")
            aliases = tuple(keywords.get("aliases", ()))
            doc = ast.get_docstring(node) or ""
            entries.append(Entry(axis, name, module, doc, _read_config(node, module), aliases))
    return entries


def _read_config(node: ast.ClassDef, module: str) -> type:
    """Execute only the nested ``Config`` class, with the names of :mod:`minigpt.schema` in scope."""
    for child in node.body:
        if isinstance(child, ast.ClassDef) and child.name == "Config":
            scope = dict(vars(schema)) | {"__name__": "minigpt.schema"}
            try:
                exec(compile(ast.Module([child], []), module, "exec"), scope)
            except NameError as error:
                raise ValueError(
                    f"{module}: Config of {node.name} may use only names of minigpt.schema: {error}"
                ) from None
            return scope["Config"]
    raise ValueError(f"{module}: {node.name} is registered but has no Config")
