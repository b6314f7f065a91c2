"""Heterogeneous models: named blocks and a pattern, resolved into one block per layer.

``blocks: {local: {attention: {name: causal, window: 128}}}`` names a block that differs from the default block in what
it says; ``pattern: [local, local, default]`` lays blocks over the layers; ``layers: {0: default}`` overrides single
layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from minigpt import registry, schema
from minigpt.errors import UserError, did_you_mean, unknown
from minigpt.registry import BLOCK_AXES, Component, Spec
from minigpt.schema import options


@options
class BlockParts:
    """The components a block is made of: one for each of BLOCK_AXES."""

    attention: Annotated[Spec, Component("attention")]
    softmax: Annotated[Spec, Component("softmax")]
    norm: Annotated[Spec, Component("norm")]
    mlp: Annotated[Spec, Component("mlp")]
    activation: Annotated[Spec, Component("activation")]
    position: Annotated[Spec, Component("position")]
    linear: Annotated[Spec, Component("linear")]
    residual: Annotated[Spec, Component("residual")]
    layout: Annotated[Spec, Component("layout")]


@options
class BlockSpec(BlockParts):
    """The block of one layer. label: the name it goes by in the pattern."""

    label: str

    @classmethod
    def default(cls, parts: BlockParts) -> BlockSpec:
        """The default block: the parts chosen at the top level."""
        return cls(label="default", **{axis: getattr(parts, axis) for axis in BLOCK_AXES})


def resolve_blocks(
    default: BlockSpec,
    blocks: Mapping[str, Mapping[str, Any]],
    pattern: tuple[str, ...],
    layers: Mapping[str, str],
    n_layer: int,
    *,
    repeat: bool,
) -> tuple[BlockSpec, ...]:
    """Spell out one BlockSpec per layer.

    The pattern must divide ``n_layer``, or ``repeat`` must say that its last round may be cut short. Raises UserError
    for a name that no block has, a block nothing uses, a layer that does not exist.
    """
    named = {"default": default} | {name: _vary(default, name, given) for name, given in blocks.items()}
    for place, label in [(f"pattern[{i}]", p) for i, p in enumerate(pattern)] + [
        (f"layers.{k}", v) for k, v in layers.items()
    ]:
        if label not in named:
            raise unknown(place, label, "there is no block named", named)
    pattern = pattern or ("default",)
    if n_layer % len(pattern) and not repeat:
        raise UserError(
            f"pattern: its {len(pattern)} blocks do not divide model.n_layer={n_layer}. "
            f"Change n_layer, or set repeat_pattern=true to cut its last round short"
        )
    labels = [pattern[i % len(pattern)] for i in range(n_layer)]
    for key, label in layers.items():
        if not key.isdigit() or int(key) >= n_layer:
            raise UserError(f"layers.{key}: there is no such layer; layers are 0 to {n_layer - 1}")
        labels[int(key)] = label
    unused = sorted(set(blocks) - set(labels))
    if unused:
        raise UserError(f"blocks.{unused[0]}: no layer uses this block. Name it in pattern or layers, or remove it")
    return tuple(named[label] for label in labels)


def _vary(default: BlockSpec, label: str, given: Mapping[str, Any]) -> BlockSpec:
    if label == "default":
        raise UserError("blocks.default: the top-level component keys are the default block; choose another name")
    chosen: dict[str, Spec] = {}
    for axis, node in given.items():
        path = f"blocks.{label}.{axis}"
        if axis not in BLOCK_AXES:
            hint = did_you_mean(axis, BLOCK_AXES)
            raise UserError(f"{path}: unknown key '{axis}'.{hint}\n  keys here: {', '.join(BLOCK_AXES)}")
        base: Spec = getattr(default, axis)
        if isinstance(node, str):
            node = {"name": node}
        if not isinstance(node, Mapping):
            raise UserError(f"{path}: expected a name or a group of options, got '{node}'")
        node = {"name": base.name} | dict(node)
        inherited = schema.plain(base.options) if node["name"] == base.name else {}
        chosen[axis] = registry.spec(axis, inherited | node, path)
    axes = {axis: chosen[axis] if axis in chosen else getattr(default, axis) for axis in BLOCK_AXES}
    return BlockSpec(label=label, **axes)
