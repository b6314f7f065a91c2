"""Component files read as source: axes, names, options and docs without importing them, so that no torch is needed."""

from __future__ import annotations

import ast
import dataclasses
import functools
import hashlib
import io
import sys
import tokenize
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from minigpt import schema
from minigpt.errors import UserError, shown

PACKAGE = Path(__file__).parent


@dataclasses.dataclass(frozen=True)
class Found:
    """A registered class as its source shows it. config: the schema of its options; None where only importing tells."""

    axis: str
    name: str
    aliases: tuple[str, ...]
    doc: str
    config: type | None
    qualname: str


def module_of(file: Path) -> str:
    """The import name of a file of this package."""
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def parsed(file: Path) -> ast.Module:
    """The syntax tree of a file; raises UserError naming the line where it is not Python."""
    return _parsed(file, file.read_bytes())


def _parsed(file: Path, content: bytes) -> ast.Module:
    try:
        return ast.parse(content, str(file))
    except (SyntaxError, ValueError) as error:  # ValueError: bytes that are no source at all
        raise cannot_import(str(file), error) from None


def cannot_import(place: str, error: Exception) -> UserError:
    """What is wrong with a file, in a line that says where."""
    if isinstance(error, UserError):
        return UserError(f"{place}: {error}")
    if isinstance(error, SyntaxError):
        asked = "" if place == error.filename else f"{place}: "
        return UserError(f"{asked}{error.filename}:{error.lineno}: not Python: {shown(error.msg)}")
    frames = traceback.extract_tb(error.__traceback__)
    at = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    return UserError(f"{place}: cannot be imported: {type(error).__name__}: {shown(error)}{at}")


def declarations(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(name, keywords) of every ``declare("<axis>", default=..., scope=...)`` at the top of a file."""
    for node in parsed(file).body:
        call = node.value if isinstance(node, ast.Expr | ast.Assign) else None
        if isinstance(call, ast.Call) and _called(call) == "declare":
            keywords = {k.arg: ast.literal_eval(k.value) for k in call.keywords if k.arg}
            yield ast.literal_eval(call.args[0]), keywords


def registered(file: Path) -> Iterator[Found]:
    """Every class of a file that is decorated with ``@register(axis, name)`` or ``@registry.register(axis, name)``."""
    tree = parsed(file)
    origins = {
        alias.asname or alias.name: node.module or ""
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            for decorator in node.decorator_list:
                if isinstance(decorator, ast.Call) and _called(decorator) == "register":
                    yield _found(node, decorator, origins)


def _called(call: ast.Call) -> str:
    return getattr(call.func, "id", getattr(call.func, "attr", ""))


def _found(node: ast.ClassDef, decorator: ast.Call, origins: dict[str, str]) -> Found:
    doc = ast.get_docstring(node) or ""
    try:
        keywords = {str(k.arg): ast.literal_eval(k.value) for k in decorator.keywords}
        places = dict(zip(("axis", "name"), map(ast.literal_eval, decorator.args), strict=False)) | keywords
        axis, name, aliases = places["axis"], places["name"], keywords.pop("aliases", ())
    except (ValueError, KeyError):  # computed: importing tells
        return Found("", "", (), doc, None, node.name)
    return Found(axis, name, tuple(aliases), doc, _config(node, origins), node.name)


def _config(node: ast.ClassDef, origins: dict[str, str]) -> type | None:
    """Execute only the nested ``Config`` class, with the names of :mod:`minigpt.schema` in scope.

    A class without one has no options, unless a base that is not its axis' or torch's may bring them: then None.
    """
    for child in node.body:
        if isinstance(child, ast.ClassDef) and child.name == "Config":
            scope = dict(vars(schema)) | {"__name__": "minigpt.schema"}
            try:
                exec(compile(ast.Module([child], []), node.name, "exec"), scope)
            except Exception:  # it needs more than its own words; importing tells what, or what is wrong
                return None
            return scope["Config"]
    plain = all(
        isinstance(base, ast.Attribute) or origins.get(getattr(base, "id", ""), "").endswith(".base")
        for base in node.bases
    )
    return schema.NoOptions if plain else None


def code_hash(module: str, package: str = "") -> str:
    """Hash of the code of a module and of what it imports from its own side: the rooms of components, its own axis'
    ``package``, or, outside this package, the modules it belongs together with."""
    seen: dict[str, str] = {}
    waiting = [module]
    while waiting:
        each = waiting.pop()
        file = _file_of(each)
        if each not in seen and file is not None:
            seen[each], imported = _code_in(file, each, file.read_bytes())
            waiting += [name for name in imported if _belongs(name, module, package)]
    return hashlib.sha256("\n".join(f"{each}\n{seen[each]}" for each in sorted(seen)).encode()).hexdigest()


@functools.cache
def _code_in(file: Path, module: str, content: bytes) -> tuple[str, tuple[str, ...]]:
    """Hash of a file's code, and what it imports."""
    tree = _parsed(file, content)
    return hashlib.sha256(_code_of(content, tree).encode()).hexdigest(), tuple(_imports(file, module, tree))


def _belongs(name: str, module: str, package: str) -> bool:
    own = [f"{PACKAGE.name}.components", package]
    if not module.startswith(f"{PACKAGE.name}."):
        own.append(module.split(".")[0])
    return any(room and f"{name}.".startswith(f"{room}.") for room in own)


def _file_of(module: str) -> Path | None:
    """The file of a module of this package, or of one that is loaded; None where there is none to read."""
    if module.split(".")[0] == PACKAGE.name:
        place = PACKAGE.joinpath(*module.split(".")[1:])
        return next((f for f in (place.with_suffix(".py"), place / "__init__.py") if f.is_file()), None)
    file = getattr(sys.modules[module], "__file__", None) if module in sys.modules else None
    return Path(file) if file and file.endswith(".py") else None


def _imports(file: Path, module: str, tree: ast.Module) -> Iterator[str]:
    """Names of modules a file imports; of ``from a import b`` both ``a`` and ``a.b``, which may be one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            up = node.level - (file.stem == "__init__")
            above = module.split(".")[: -up or None] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (base, *(f"{base}.{alias.name}" for alias in node.names))


def _code_of(content: bytes, tree: ast.Module) -> str:
    """A file without comments, docstrings and blank lines: the same under every version of Python."""
    tokens = list(tokenize.tokenize(io.BytesIO(content).readline))
    lines = content.decode(tokens[0].string).replace("\r\n", "\n").split("\n")
    for token in tokens:
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node, clean=False):
            doc = node.body[0]
            lines[doc.lineno - 1 : doc.end_lineno] = [""] * ((doc.end_lineno or doc.lineno) - doc.lineno + 1)
    return "\n".join(line.rstrip() for line in lines if line.strip())
