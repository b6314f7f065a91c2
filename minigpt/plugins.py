"""Outside modules that register components: found on the Python path, in the current folder, or by their file."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from pathlib import Path
from typing import Any

from minigpt.errors import UserError


def load_plugins(modules: Any) -> None:
    """Import plugins, each once. Raises UserError, naming the line at fault, for one that is not there or fails."""
    if not isinstance(modules, list | tuple) or not all(isinstance(module, str) for module in modules):
        raise UserError(
            f"plugins: expected a list of modules or files, such as [my_norms] or [./my_norms.py], got '{modules}'"
        )
    for module in modules:
        _load(module)


def _load(module: str) -> None:
    file = Path(module).resolve() if module.endswith(".py") else None
    name = module if file is None else file.stem
    loaded = sys.modules.get(name)
    if loaded is not None:
        if file is not None and Path(getattr(loaded, "__file__", None) or "").resolve() != file:
            raise UserError(f"plugins: {module}: a module named '{name}' is loaded already. Give the file another name")
        return
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    if not all(part.isidentifier() for part in name.split(".")):
        raise UserError(
            f"plugins: '{module}' is no module's name. Give a name such as my_norms, or a file ./my_norms.py"
        )
    try:
        found = importlib.util.spec_from_file_location(name, file) if file else importlib.util.find_spec(name)
    except (ModuleNotFoundError, ValueError):
        found = None
    if found is None or found.loader is None or (file is not None and not file.is_file()):
        where = f"file '{module}'" if file else f"module '{module}' on the Python path or in {Path.cwd()}"
        raise UserError(f"plugins: no {where}")
    plugin = importlib.util.module_from_spec(found)
    sys.modules[name] = plugin
    try:
        found.loader.exec_module(plugin)
    except BaseException as error:
        del sys.modules[name]
        raise _failed(module, error) from None


def _failed(module: str, error: BaseException) -> BaseException:
    """A plugin's own mistake as a UserError that says where it is."""
    if isinstance(error, UserError):
        return UserError(f"plugins: {module}: {error}")
    if isinstance(error, SyntaxError):
        return UserError(f"plugins: {error.filename}:{error.lineno}: not Python: {error.msg}")
    if not isinstance(error, Exception):
        return error
    last = traceback.extract_tb(error.__traceback__)[-1]
    first = (str(error).splitlines() or [""])[0]
    where = f"{last.filename}:{last.lineno}"
    return UserError(f"plugins: {module} cannot be imported: {type(error).__name__}: {first} ({where})")
