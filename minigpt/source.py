"""Component files read as source: axes, names, options and docs without importing them, so that no torch is needed."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from minigpt import schema
from minigpt.errors import UserError

PACKAGE = Path(__file__).parent


@dataclasses.dataclass(frozen=True)
class Found:
    """A registered class as its source shows it. config: the schema of its options; None where only importing tells."""

    axis: str | None
    name: str | None
    aliases: tuple[str, ...]
    doc: str
    config: type | None


def module_of(file: Path) -> str:
    """The import name of a file of this package."""
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def parsed(file: Path) -> ast.Module:
    """The syntax tree of a file; raises UserError naming the line where it is not Python."""
    try:
        return ast.parse(file.read_text(encoding="utf-8"), str(file))
    except SyntaxError as error:
        raise UserError(f"{file}:{error.lineno}: not Python: {error.msg}") from None


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
        keywords = {k.arg: ast.literal_eval(k.value) for k in decorator.keywords}
        axis, name = (ast.literal_eval(argument) for argument in decorator.args)
    except ValueError:  # computed: importing tells
        return Found(None, None, (), doc, None)
    return Found(axis, name, tuple(keywords.pop("aliases", ())), doc, _config(node, origins))


def _config(node: ast.ClassDef, origins: dict[str, str]) -> type | None:
    """Execute only the nested ``Config`` class, with the names of :mod:`minigpt.schema` in scope.

    A class without one has no options, unless a base that is not its axis' or torch's may bring them: then None.
    """
    for child in node.body:
        if isinstance(child, ast.ClassDef) and child.name == "Config":
            scope = dict(vars(schema)) | {"__name__": "minigpt.schema"}
            try:
                exec(compile(ast.Module([child], []), node.name, "exec"), scope)
            except (NameError, AttributeError):
                return None
            return scope["Config"]
    plain = all(
        isinstance(base, ast.Attribute) or origins.get(getattr(base, "id", ""), "").endswith(".base")
        for base in node.bases
    )
    return schema.NoOptions if plain else None
