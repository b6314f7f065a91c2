"""Presets: a file ``conf/<axis>/<word>.yaml`` is a named choice of options of one axis, or of several.

``attention=gqa`` means the same wherever it is said: at the top level, in a block, at a site, in a sweep, in a search.
What a file says is what Hydra makes of it on the command line; a test holds every file to that. Nothing here imports
Hydra or torch.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import graphlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from minigpt import registry, schema
from minigpt.errors import UserError, shown, unknown
from minigpt.shipped import CONF

Node = dict[str, Any]

_OVERRIDE = re.compile(r"override /(\w+)@_global_\.\1")
_FORM = "defaults: [<name>, _self_, override /<axis>@_global_.<axis>: <name>], and options"


@dataclasses.dataclass(frozen=True)
class Preset:
    """A file as it stands. layers: what it is made of, in order: words of its axis, and its own options.
    brings: the words it chooses on other axes."""

    layers: tuple[str | Node, ...]
    brings: Mapping[str, str]


def resolve(axis: str, word: str, path: str = "") -> dict[str, Node]:
    """Axis -> node of all that ``axis=word`` chooses: a component at its defaults, or a preset and what it brings.

    Raises UserError, with all choices, for a word that is neither.
    """
    if not is_word(axis, word):
        raise unknown(path or axis, word, f"there is no {axis} named", [*registry.names(axis), *named(axis)])
    return copy.deepcopy(_nodes(axis, word))


def spell_out(content: Mapping[str, Any]) -> Node:
    """A training configuration, as it was written, with every preset in it replaced by what it stands for: on top, in
    blocks, layers, sites and transforms. What is no preset stays as it is, mistakes included.

    Raises UserError for a preset that chooses on an axis which has no choice at its place.
    """
    _refuse_ambiguous()
    single = composition_order()
    spelt = _sites_spelt(_axes_spelt(content, single, ""), "")
    for key in ("blocks", "layers"):
        if key in spelt and isinstance(spelt[key], Mapping):
            spelt[key] = {label: _block_spelt(said, f"{key}.{label}.") for label, said in spelt[key].items()}
    if "transforms" in spelt and isinstance(spelt["transforms"], list | tuple):
        spelt["transforms"] = [one_spelt("transform", n, f"transforms[{i}]") for i, n in enumerate(spelt["transforms"])]
    return spelt


def _block_spelt(said: Any, path: str) -> Any:
    if not isinstance(said, Mapping):
        return said
    return _sites_spelt(_axes_spelt(said, registry.axes("block"), path), path)


def _sites_spelt(content: Node, path: str) -> Node:
    """``content`` with the presets in its ``sites``, each of which holds one component, spelt out."""
    if "sites" not in content or not isinstance(content["sites"], Mapping):
        return content
    sites = {
        axis: {site: one_spelt(axis, node, f"{path}sites.{axis}.{site}") for site, node in places.items()}
        if isinstance(places, Mapping) and axis in registry.axes("block")
        else places
        for axis, places in content["sites"].items()
    }
    return content | {"sites": sites}


def one_spelt(axis: str, node: Any, path: str) -> Any:
    """What stands at a place for one component, with the preset it names, if it does, spelt out."""
    return _axes_spelt({axis: node}, [axis], f"{path}: ")[axis]


def _choice(axis: str, node: Any, path: str) -> registry.Spec:
    return registry.spec(axis, one_spelt(axis, node, path), path)


schema.Choice.reader = _choice  # an option that is a component knows presets too


def _axes_spelt(given: Mapping[str, Any], axes: list[str], path: str) -> Node:
    """What presets bring stands where ``given`` says nothing; of two that bring the same, the later axis wins."""
    spelt = dict(given)
    for axis in (a for a in axes if a in given):
        word = _preset_in(axis, given[axis])
        if word is None:
            continue
        for other, node in resolve(axis, word).items():
            if other not in axes:
                raise UserError(
                    f"{path}{axis}: preset '{word}' chooses {other} too, which has no choice here. "
                    f"Say the options themselves: {{name: {resolve(axis, word)[axis]['name']}, ...}}"
                )
            if other == axis:
                spelt[axis] = node | ({} if isinstance(given[axis], str) else {**given[axis], "name": node["name"]})
            elif other not in given:
                spelt[other] = node
    return spelt


def is_word(axis: str, word: str) -> bool:
    """Whether ``axis=word`` means something."""
    return word in named(axis) or registry.has(axis, word)


def named(axis: str) -> list[str]:
    """The presets of an axis, sorted."""
    return sorted(_files(axis))


@functools.cache
def brings(axis: str) -> frozenset[str]:
    """The other axes that presets of an axis choose on."""
    return frozenset(other for word in named(axis) for other in _read(axis, word).brings)


def composition_order() -> list[str]:
    """The axes one component is chosen on, each after those that its presets choose on: Hydra lets a file change only
    what stands before it."""
    return list(_order(tuple(axis for scope in ("block", "model", "run") for axis in registry.axes(scope))))


@functools.cache
def _order(axes: tuple[str, ...]) -> tuple[str, ...]:
    order = graphlib.TopologicalSorter({axis: sorted(brings(axis).intersection(axes)) for axis in axes})
    try:
        return tuple(order.static_order())
    except graphlib.CycleError as error:
        raise UserError(f"{CONF}: presets of {' and '.join(error.args[1][1:])} choose on each other's axis") from None


def _refuse_ambiguous() -> None:
    for axis in registry.axes():
        for word in _files(axis):
            if registry.has(axis, word):
                place = registry.entry(axis, word).place
                raise UserError(f"{axis}={word}: is both {place} and the preset {_files(axis)[word]}. Rename one")


def _preset_in(axis: str, node: Any) -> str | None:
    """The preset that a node names, None when it names a component or nothing."""
    word = node["name"] if isinstance(node, Mapping) and "name" in node else node
    return word if isinstance(word, str) and word in named(axis) else None


def _chosen(axis: str, word: str) -> dict[str, str]:
    """Axis -> word; where two presets choose on one axis, the one nearer to ``word`` wins."""
    chosen = {axis: word}
    waiting = [(axis, word)]
    for each, its in waiting:
        for preset in _chain(each, its):
            for other, brought in preset.brings.items():
                if other not in chosen:
                    chosen[other] = brought
                    waiting.append((other, brought))
    return chosen


def _chain(axis: str, word: str, above: tuple[str, ...] = ()) -> list[Preset]:
    """A preset and those of its own axis that it starts from; empty for a component."""
    if word in above:
        raise UserError(f"{_files(axis)[word]}: starts from itself")
    if word not in named(axis):
        return []
    preset = _read(axis, word)
    below = [each for each in preset.layers if isinstance(each, str)]
    return [preset, *(each for name in below for each in _chain(axis, name, (*above, word)))]


@functools.cache
def _nodes(axis: str, word: str) -> dict[str, Node]:
    return {each: _node(each, its) for each, its in _chosen(axis, word).items()}


def _node(axis: str, word: str) -> Node:
    """The whole node of a word on one axis, every option with its value."""
    place = str(_files(axis)[word]) if word in named(axis) else axis
    return schema.plain(registry.spec(axis, _said(axis, word), place))


def _said(axis: str, word: str) -> Node:
    if word not in named(axis):
        return schema.plain(registry.spec(axis, word))
    said: Node = {}
    for layer in _read(axis, word).layers:
        said = _merged(said, _said(axis, layer) if isinstance(layer, str) else layer)
    return said


def _merged(one: Node, other: Mapping[str, Any]) -> Node:
    """As Hydra merges: groups key by key, anything else is replaced."""
    both = {k: _merged(one[k], v) for k, v in other.items() if isinstance(v, Mapping) and isinstance(one.get(k), dict)}
    return one | dict(other) | both


@functools.cache
def _files(axis: str) -> Mapping[str, Path]:
    return {file.stem: file for file in sorted((CONF / axis).glob("*.yaml"))}


@functools.cache
def _read(axis: str, word: str) -> Preset:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    file = _files(axis)[word]
    try:
        content: Any = OmegaConf.to_container(OmegaConf.load(file), resolve=False)
    except (YAMLError, OmegaConfBaseException, OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: cannot be read: {shown(error)}") from None
    defaults = content.pop("defaults", []) if isinstance(content, dict) else None
    if not isinstance(defaults, list) or "${" in str(content):
        raise UserError(f"{file}: a preset says names and values: {_FORM}")
    own: Node = {str(key): value for key, value in content.items()}
    layers: list[str | Node] = []
    brought: dict[str, str] = {}
    for each in defaults:
        found = _OVERRIDE.fullmatch(next(iter(each))) if isinstance(each, dict) and len(each) == 1 else None
        if found:
            brought[found[1]] = str(next(iter(each.values())))
        elif isinstance(each, str):
            layers.append(own if each == "_self_" else each)
        else:
            raise UserError(f"{file}: '{shown(each)}' is not understood in a preset. Its form: {_FORM}")
    return Preset(tuple(layers if "_self_" in defaults else [*layers, own]), brought)
