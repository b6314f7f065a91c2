"""The catalogue: what the registry holds, for people to read and programs to parse.

What a variant is, its papers and its options come from its source; what it learns and can do, from building it without
memory.
A variant needs no word here: its docstring, its ``Config`` and its class attributes are its entry.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import re
import types
import typing
from collections.abc import Iterable
from typing import Any

from minigpt import registry, schema
from minigpt.errors import UserError
from minigpt.registry import Entry
from minigpt.screen import console, plain_text

EXAMPLE = {"d_model": 128, "n_head": 4, "head_dim": 32, "n_layer": 1, "block_size": 128, "vocab_size": 256}
"""The sizes at which the catalogue says what a variant learns and remembers."""

_NOT_A_CAPABILITY = frozenset(
    {"axis", "name", "Config", "cases", "changes", "training", "dump_patches", "call_super_init"}
)


@dataclasses.dataclass(frozen=True)
class Option:
    """One option of a variant: its name, what it may be, in words, and its default."""

    name: str
    values: str
    default: Any


@dataclasses.dataclass(frozen=True)
class Variant:
    """A registered name. summary: what it is, in a line. papers: arXiv ids. module: the file it lives in."""

    axis: str
    name: str
    summary: str
    papers: tuple[str, ...]
    doc: str
    options: tuple[Option, ...]
    aliases: tuple[str, ...]
    module: str


@dataclasses.dataclass(frozen=True)
class Abilities:
    """What is known of a variant once it is built at the sizes of EXAMPLE, with the house defaults around it.

    learned: parameter -> shape. facts: the class attributes other rooms ask for (uses, kind, reductions ...).
    cache, cache_bytes: what it remembers while decoding, and how much for one sequence of block_size in fp32.
    """

    learned: dict[str, tuple[int, ...]]
    facts: dict[str, Any]
    cache: str | None
    cache_bytes: int


def variants(axis: str) -> list[Variant]:
    """All variants of an axis, by name; raises UserError for an axis that is none. Imports no component."""
    return [_variant(registry.entry(axis, name)) for name in registry.names(axis)]


def abilities(variant: Variant) -> Abilities:
    """Import a variant, build it on the meta device and look. Needs torch."""
    cls = registry.get(variant.axis, variant.name)
    facts = {k: v for k, v in _facts(cls).items() if k not in _NOT_A_CAPABILITY}
    if variant.axis not in _built_with_a_model():
        return Abilities({}, facts, None, 0)
    try:
        model = _example(variant)
    except UserError:  # it needs a tensor that another variant provides: nothing can be said of it alone
        return Abilities({}, facts, None, 0)
    parts = (m for m in model.modules() if isinstance(m, cls))
    # a position of kind none is not there at all; a residual has other parameters at every place
    learned = max((_own_parameters(part, variant.axis) for part in parts), key=len, default={})
    state = model.new_state(batch=1) if variant.axis == "attention" else None
    if state is None or state.layers[0] is None:
        return Abilities(learned, facts, None, 0)
    return Abilities(learned, facts, type(state.layers[0]).__name__, state.bits // 8)


def _own_parameters(part: Any, axis: str) -> dict[str, tuple[int, ...]]:
    """Parameters of a part and of its linear maps, not of the parts it takes from other axes."""
    others = [
        name for name, child in part.named_modules() if name and getattr(child, "axis", axis) not in (axis, "linear")
    ]
    return {
        name: tuple(parameter.shape)
        for name, parameter in part.named_parameters()
        if not any(name.startswith(f"{other}.") for other in others)
    }


def as_json(variant: Variant) -> dict[str, Any]:
    """Everything known of a variant, as plain values."""
    known = dataclasses.asdict(variant) | dataclasses.asdict(abilities(variant))
    return typing.cast(dict[str, Any], _json(known))


def _variant(entry: Entry) -> Variant:
    papers = tuple(dict.fromkeys(re.findall(r"arXiv:(\d{4}\.\d{4,5})", entry.doc)))
    hints = typing.get_type_hints(entry.config, include_extras=True)
    defaults = schema.defaults(entry.config)
    options = tuple(Option(name, in_words(hint), defaults.get(name, "required")) for name, hint in hints.items())
    return Variant(entry.axis, entry.name, _summary(entry.doc), papers, entry.doc, options, entry.aliases, entry.module)


def _summary(doc: str) -> str:
    """The first sentence."""
    paragraph = doc.strip().split("\n\n")[0].replace("\n", " ")
    return re.split(r"(?<!\bal)\.\s+", paragraph)[0].rstrip(".").strip()


def in_words(hint: Any) -> str:
    """What an option may be: ``whole number >= 1, or null``."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        if any(hasattr(mark, "read") for mark in arguments[1:]):
            return "a name or a group of options"
        bounds = " ".join(str(mark) for mark in arguments[1:])
        return f"{in_words(arguments[0])} {bounds}".strip()
    if origin is typing.Literal:
        return " | ".join(str(choice) for choice in arguments)
    if origin in (typing.Union, types.UnionType):
        members = [in_words(member) for member in arguments if member is not type(None)]
        return " or ".join(members) + (", or null" if type(None) in arguments else "")
    if origin in (list, tuple):
        return f"list of {in_words(arguments[0])}"
    if origin in (dict, collections.abc.Mapping) or dataclasses.is_dataclass(hint):
        return "group of keys"
    words = {int: "whole number", float: "number", bool: "true | false", str: "text"}
    return words.get(hint, getattr(hint, "__name__", str(hint)))


def _facts(cls: type) -> dict[str, Any]:
    """Public class attributes that are plain values, from the class and what it derives from in components."""
    facts: dict[str, Any] = {}
    for each in reversed(cls.__mro__):
        if each.__module__.split(".")[0] not in ("torch", "builtins", "abc", "typing", "types"):
            plain = {k: v for k, v in vars(each).items() if isinstance(v, (bool, int, str, frozenset, dict, tuple))}
            facts |= {k: v for k, v in plain.items() if not k.startswith("_")}
    return facts


def _example(variant: Variant) -> Any:
    from minigpt.model import GPT, ModelSpec

    chosen = {variant.axis: {"name": variant.name}}
    block: dict[str, Any] = {"label": "default"} | (chosen if variant.axis in registry.axes("block") else {})
    content: dict[str, Any] = EXAMPLE | {"bias": False, "dropout": 0.0, "tie_embeddings": True, "seed": 0}
    content |= {"default": block, "blocks": [block]} | (chosen if variant.axis in registry.axes("model") else {})
    return GPT.on_meta(schema.typed(ModelSpec, content))


def _built_with_a_model() -> list[str]:
    """Axes whose components are modules of a model."""
    return [*registry.axes("block"), "embedding", "head"]


def _json(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _json(v) for k, v in value.items()}
    if isinstance(value, frozenset):
        return sorted(value)
    return [_json(v) for v in value] if isinstance(value, (list, tuple)) else value


def show_overview(axes: Iterable[str]) -> None:
    """Print every variant of ``axes`` in one table: name, a line, papers, options with defaults."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("axis", "name", "what it is", "arXiv", "options"):
        table.add_column(column, no_wrap=column in ("axis", "name", "arXiv"))
    for axis in axes:
        default = registry.axis_named(axis).default
        for place, each in enumerate(found := variants(axis)):
            options = " ".join(f"{o.name}={_value(o.default)}" for o in each.options)
            name = each.name + (" *" if each.name == default else "")
            row = (axis if place == 0 else "", name, each.summary, "\n".join(each.papers), options)
            table.add_row(*map(_text, row), end_section=each is found[-1])
    _console().print(table)
    _console().print("* the default. More of one axis: python -m minigpt components <axis>")


def show_axis(axis: str) -> None:
    """Print all that is known of every variant of an axis."""
    from rich.padding import Padding

    console = _console()
    for each in variants(axis):
        known = abilities(each)
        default = " (the default)" if registry.axis_named(axis).default == each.name else ""
        title = _text(f"{axis}={each.name}")
        title.stylize("bold")
        console.print(title + _text(f"{default}   {each.module}"))
        console.print(Padding(_text(each.doc), (0, 0, 0, 2)))
        for option in each.options:
            key = f"{axis}.{each.name}" if registry.axis_named(axis).scope == "data" else axis  # one of several steps
            console.print(_text(f"    {key}.{option.name}={_value(option.default)}   {option.values}"))
        for title, content in _lines(each, known):
            console.print(_text(f"  {title}: {content}"))
        console.print()
    if axis in _built_with_a_model():
        console.print(_text(f"Shapes and bytes at {', '.join(f'{k}={v}' for k, v in EXAMPLE.items())}, fp32."))


def _lines(variant: Variant, known: Abilities) -> list[tuple[str, str]]:
    lines = [("also called", ", ".join(variant.aliases))]
    if variant.axis in _built_with_a_model():
        learned = ", ".join(f"{name} {shape}" for name, shape in known.learned.items())
        lines.append(("learns", learned or "nothing"))
    if variant.axis == "attention":
        lines.append(("remembers", f"{known.cache}, {known.cache_bytes} bytes" if known.cache else "nothing"))
    facts = [f"{name} {_value(value)}" for name, value in known.facts.items() if value not in (frozenset(), {}, ())]
    return [(title, content) for title, content in [*lines, ("declares", "; ".join(facts))] if content]


def _value(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (frozenset, tuple, list)):
        return ", ".join(sorted(map(str, value)))
    if isinstance(value, dict):
        return ", ".join(f"{k} {v}" for k, v in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)


def _text(content: str) -> Any:
    return plain_text(content)  # brackets in formulas are no markup


def _console() -> Any:
    import shutil

    return console(width=shutil.get_terminal_size((120, 40)).columns, highlight=False, soft_wrap=False)
