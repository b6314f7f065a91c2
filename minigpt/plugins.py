"""Outside modules that register components: found on the Python path, in the current folder, or by their file."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from minigpt import registry
from minigpt.errors import UserError, shown
from minigpt.source import cannot_import

_loaded: set[str] = set()


@contextlib.contextmanager
def unloaded_afterwards() -> Iterator[None]:
    """Context whose plugins are known, and no longer: loaded again, they register again."""
    before = set(_loaded)
    with registry.forgotten_afterwards():
        yield
    for name in _loaded - before:
        _loaded.remove(name)
        sys.modules.pop(name, None)


def load_plugins(modules: Any) -> None:
    """Import plugins, each once: a module's name, or the path of a file that ends in .py.

    Raises UserError, naming the line at fault, for one that is not there or fails.
    """
    if isinstance(modules, str):
        raise UserError(f"plugins: expected a list, write plugins=[{shown(modules)}]")
    named = list(modules) if isinstance(modules, Iterable) else [modules]
    for module in named:
        if not isinstance(module, str):
            raise UserError(
                f"plugins: expected modules or files, such as [my_norms] or [./my_norms.py], got '{shown(modules)}'"
            )
        _load(module)


def is_loaded(module: object) -> bool:
    """Whether a plugin, as it was given to :func:`load_plugins`, is loaded."""
    return isinstance(module, str) and module_name(module) in sys.modules


def module_name(module: str) -> str:
    """The name under which a plugin is imported, given by it or by its file: the same wherever the file lies."""
    return Path(module).stem if module.endswith(".py") else module


def _load(module: str) -> None:
    file = Path(module) if module.endswith(".py") and module.isprintable() else None
    name = module_name(module)
    if not all(part.isidentifier() for part in name.split(".")):
        raise UserError(
            f"plugins: '{shown(module)}' is no module. Give a name such as my_norms, or a file such as ./my_norms.py, "
            f"made of letters, digits and _"
        )
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    if name not in sys.modules:
        _loaded.add(name)
        _import_file(name, file) if file else _import_named(name)
    elif file and not _is_of(sys.modules[name], file):
        raise UserError(f"plugins: {module}: a module named '{name}' is loaded already. Give the file another name")


def _import_named(name: str) -> None:
    try:
        found = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        found = None
    except Exception as error:  # of the package it is in
        raise cannot_import(f"plugins: {name}", error) from None
    if found is None:
        raise UserError(f"plugins: no module '{shown(name, 60)}' on the Python path or in {Path.cwd()}")
    try:
        importlib.import_module(name)
    except Exception as error:
        raise cannot_import(f"plugins: {name}", error) from None


def _import_file(name: str, file: Path) -> None:
    spec = importlib.util.spec_from_file_location(name, file.resolve())
    if spec is None or spec.loader is None or not file.is_file():
        raise UserError(f"plugins: no file '{file}'. A path counts from {Path.cwd()}")
    sys.modules[name] = plugin = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(plugin)
    except BaseException as error:
        del sys.modules[name]
        raise (cannot_import(f"plugins: {file}", error) if isinstance(error, Exception) else error) from None


def _is_of(module: ModuleType, file: Path) -> bool:
    return Path(getattr(module, "__file__", None) or "").resolve() == file.resolve()
