"""What a dotted key means in a configuration: the value there, and another in its place.

``layers.1.attention`` and ``layers.1.attention.window`` are the part of one layer, whoever chose it; ``layers.1`` is
the name of its block.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from minigpt import presets, registry, schema
from minigpt.config import TrainConfig
from minigpt.errors import UserError, shown


def axis_of(key: str) -> str | None:
    """The axis on which a key chooses a component: ``norm``, ``layers.1.norm``; None for every other key."""
    layer, last = _layer(key), key.split(".")[-1]
    if last in registry.axes() if layer is None else last in registry.axes("block"):
        return last if key == last or (layer is not None and key.count(".") == 2) else None
    return None


def value_at(run: TrainConfig, key: str) -> Any:
    """The plain value of a key; a component's is its name. Raises UserError when there is none."""
    return _name_of(_node_at(run, key))


def word_at(run: TrainConfig, key: str, words: Iterable[str]) -> Any:
    """The one of ``words`` that says what ``run`` has at a key, such as the preset it was made with, else its value."""
    axis = axis_of(key)
    if axis is None:
        return value_at(run, key)
    present = {axis: _node_at(run, key)} if key != axis else schema.plain(run)
    for word in words:
        chosen = presets.resolve(axis, word)
        if all(present[other] == node for other, node in chosen.items() if other in present):
            return word
    return str(registry.spec(axis, present[axis]))


def set_at(content: dict[str, Any], key: str, value: Any) -> None:
    """Put a value at a key of a plain configuration, in place. Raises UserError when there is no such key."""
    if _layer(key) is not None:
        _set_in_layer(content, key, value)
        return
    *groups, last = key.split(".")
    node: Any = content
    for group in groups:
        node = node[group] if isinstance(node, dict) and group in node else None
    if not isinstance(node, dict) or last not in node:
        raise _missing(key)
    node[last] = value


def _node_at(run: TrainConfig, key: str) -> Any:
    layer = _layer(key)
    if layer is None:
        value: Any = schema.plain(run)
        words = key.split(".")
    else:
        if layer >= run.model.n_layer:
            raise UserError(f"{key}: there is no such layer; layers are 0 to {run.model.n_layer - 1}")
        block = run.resolved_blocks()[layer]
        value, words = schema.plain(block), key.split(".")[2:] or ["label"]
    for word in words:
        if not isinstance(value, Mapping) or word not in value:
            raise _missing(key)
        value = value[word]
    return value


def _set_in_layer(content: dict[str, Any], key: str, value: Any) -> None:
    _, layer, *words = key.split(".")
    layers = dict(content["layers"])
    if not words:
        layers[layer] = value
        used = {*content["pattern"], *(block for block in layers.values() if isinstance(block, str))}
        content["blocks"] = {label: block for label, block in content["blocks"].items() if label in used}
    else:
        layers[layer] = _varied(layers.get(layer, {}), words, value, key)
    content["layers"] = layers


def _varied(said: Any, words: list[str], value: Any, key: str) -> dict[str, Any]:
    """What a layer says, and one thing more."""
    if isinstance(said, str) and len(words) and key.count(".") - len(words) == 1:
        raise UserError(f"{key}: this layer is the block '{shown(said)}'. Let blocks.{shown(said)} say what is varied")
    first, *others = words
    node = {"name": said} if isinstance(said, str) else dict(said)
    node[first] = _varied(node.get(first, {}), others, value, key) if others else value
    return node


def _layer(key: str) -> int | None:
    words = key.split(".")
    return (
        int(words[1])
        if len(words) > 1 and words[0] == "layers" and words[1].isdecimal() and len(words[1]) < 5
        else None
    )


def _name_of(node: Any) -> Any:
    return node["name"] if isinstance(node, dict) and "name" in node else node


def _missing(key: str) -> UserError:
    return UserError(f"{key}: there is no such key in this configuration")
