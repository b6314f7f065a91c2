"""What the layers of a model are made of: the default block, named blocks, a pattern, and what layers share.

``blocks: {local: {attention: {name: causal, window: 128}}}`` names a block that differs from the default block in what
it says; ``pattern: [local, local, default]`` lays blocks over the layers; ``layers: {0: default}`` overrides single
layers. ``sites: {linear: {down: ternary}}``, at the top level or inside a block, chooses for one place of a block.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from minigpt import presets, registry, schema
from minigpt.errors import UserError, shown, unknown
from minigpt.registry import Parts, Spec
from minigpt.schema import Limit, Name, PositiveInt, Range, UnknownKeyError, check, options

LayerCount = Annotated[int, Range(ge=1), Limit(4096)]
"""How many layers a model may have: a list of them is built before anything else."""

Order = Literal["none", "run", "cycle", "mirror"]


class Sites:
    """Annotation of ``sites``: axis -> site -> Spec, read in full."""

    @staticmethod
    def read(node: Any, path: str) -> dict[str, dict[str, Spec]]:
        return resolve_sites({}, node, path)


@options
class BlockSpec:
    """The block of one layer. label: the name it goes by in the pattern. parts: its component on every axis.
    sites: axis -> site -> the component that place has instead."""

    label: str
    parts: Annotated[Mapping[str, Spec], Parts("block")]
    sites: Annotated[Mapping[str, Mapping[str, Spec]], Sites] = dataclasses.field(default_factory=dict)

    def spec(self, axis: str, site: str | None = None) -> Spec:
        """What is chosen on an axis, for a named place of it."""
        here = site is not None and axis in self.sites and site in self.sites[axis]
        return self.sites[axis][site] if here else self.parts[axis]  # type: ignore[index]

    def varied(self, label: str, given: Mapping[str, Any], path: str) -> BlockSpec:
        """The block that differs from this one in what ``given`` says: axes, and ``sites``."""
        if not isinstance(given, Mapping):
            raise UserError(f"{path}: expected axes and their choices, such as {{mlp: ...}}, got '{shown(given)}'")
        known = [*self.parts, "sites"]
        for axis in given:
            if axis not in known:
                raise UnknownKeyError(f"{path}.{axis}", str(axis), known)
        parts = dict(self.parts)
        for axis, node in given.items():
            if axis != "sites":
                parts[axis] = vary(axis, self.parts[axis], node, f"{path}.{axis}")
        here = resolve_sites(parts, given["sites"], f"{path}.sites") if "sites" in given else {}
        both = {axis: {**self.sites[axis], **here[axis]} for axis in here if axis in self.sites}
        return BlockSpec(label=label, parts=parts, sites={**self.sites, **here, **both})


@options
class ShareSpec:
    """Which layers share one block, one attention, one MLP.

    block, attention, mlp: run is neighbours (AABB), cycle every so many layers (ABAB), mirror there and back (ABBA).
    distinct: how many different ones there are; None is one for run and cycle, half of the layers for mirror.
    """

    block: Order = "none"
    attention: Order = "none"
    mlp: Order = "none"
    distinct: PositiveInt | None = None

    def __post_init__(self):
        parts = {self.attention, self.mlp} - {"none"}
        if self.distinct is not None and not parts and self.block == "none":
            raise UserError("share.distinct: nothing is shared. Set share.block, share.attention or share.mlp")
        if self.block != "none" and parts:
            raise UserError("share.block: whole blocks share their attention and their mlp. Leave the other two out")

    def owners(self, part: Literal["block", "attention", "mlp"], n_layer: int) -> list[int]:
        """For every layer, the first one that has the same part: itself where nothing is shared.

        Raises UserError when there are more different ones than layers.
        """
        order = {"block": self.block, "attention": self.attention, "mlp": self.mlp}[part]
        if order == "none":
            return list(range(n_layer))
        n = self.distinct or (-(-n_layer // 2) if order == "mirror" else 1)
        if n > n_layer:
            raise UserError(f"share.distinct: {n} is more than model.n_layer={n_layer}. Take at most {n_layer}")
        which = {
            "run": lambda layer: layer * n // n_layer,
            "cycle": lambda layer: layer % n,
            "mirror": lambda layer: min(layer % (2 * n), 2 * n - 1 - layer % (2 * n)),
        }[order]
        numbers = [which(layer) for layer in range(n_layer)]
        return [numbers.index(number) for number in numbers]


def resolve_sites(parts: Mapping[str, Spec], given: Any, path: str) -> dict[str, dict[str, Spec]]:
    """axis -> site -> Spec. A site of the same name as the block's part starts from the part's options."""
    if not isinstance(given, Mapping):
        raise UserError(
            f"{path}: expected axes with their sites, such as {{linear: {{down: ternary}}}}, got '{shown(given)}'"
        )
    sites: dict[str, dict[str, Spec]] = {}
    for axis, places in given.items():
        if axis not in registry.axes("block"):
            raise unknown(f"{path}.{axis}", axis, "there is no axis of blocks named", registry.axes("block"))
        if not isinstance(places, Mapping):
            raise UserError(f"{path}.{axis}: expected sites, such as {{down: ...}}, got '{shown(places)}'")
        if places:
            base = parts.get(axis)
            sites[axis] = {str(site): vary(axis, base, node, f"{path}.{axis}.{site}") for site, node in places.items()}
    return sites


def vary(axis: str, base: Spec | None, node: Any, path: str) -> Spec:
    """The component a node means where ``base`` stands: options of the same name are kept where it says nothing."""
    if isinstance(node, str):
        node = {"name": node}
    if isinstance(node, Mapping) and base is not None:
        node = {"name": base.name} | dict(node)
        same = registry.entry(axis, str(node["name"]), f"{path}.name").name == base.name
        inherited = schema.plain(base.options) if same else {}
        node = inherited | node
    if not isinstance(node, Mapping | Spec):
        raise UserError(f"{path}: expected a name or a group of options, got '{shown(node)}'")
    return registry.spec(axis, node, path)


def resolve_blocks(
    default: BlockSpec,
    blocks: Mapping[str, Mapping[str, Any]],
    pattern: tuple[str, ...],
    layers: Mapping[str, str | Mapping[str, Any]],
    n_layer: int,
    *,
    repeat: bool,
) -> tuple[BlockSpec, ...]:
    """Spell out one BlockSpec per layer.

    layers: layer -> a block's name, or what differs there from the block of the pattern. The pattern must divide
    ``n_layer``, or ``repeat`` must say that its last round may be cut short. Raises UserError for a name that no block
    has, a block nothing uses, a layer that does not exist.
    """
    if "default" in blocks:
        raise UserError("blocks.default: the top-level component keys are the default block; choose another name")
    named = {"default": default}
    for label, given in blocks.items():
        named[check(Name, label, f"blocks.{shown(label)}")] = default.varied(label, given, f"blocks.{label}")
    laid = [_block_named(label, named, f"pattern[{place}]") for place, label in enumerate(pattern)] or [default]
    if n_layer % len(laid) and not repeat:
        raise UserError(
            f"pattern: its {len(laid)} blocks do not divide model.n_layer={n_layer}. "
            f"Change n_layer, or set repeat_pattern=true to cut its last round short"
        )
    resolved = [laid[layer % len(laid)] for layer in range(n_layer)]
    for key, said in layers.items():
        if not key.isdecimal() or len(key) > 4 or int(key) >= n_layer:
            raise UserError(f"layers.{shown(key)}: there is no such layer; layers are 0 to {n_layer - 1}")
        layer, path = int(key), f"layers.{int(key)}"
        own = None if isinstance(said, str) else resolved[layer].varied(f"layer {layer}", said, path)
        resolved[layer] = own or _block_named(said, named, path)
    unused = sorted(set(blocks) - set(pattern) - {said for said in layers.values() if isinstance(said, str)})
    if unused:
        raise UserError(f"blocks.{unused[0]}: no layer uses this block. Name it in pattern or layers, or remove it")
    return tuple(resolved)


def _block_named(label: Any, named: Mapping[str, BlockSpec], path: str) -> BlockSpec:
    if label in named:
        return named[label]
    error = unknown(path, label, "there is no block named", named)
    axes = [axis for axis in registry.axes("block") if isinstance(label, str) and presets.is_word(axis, label)]
    if not axes:
        raise error
    way_out = f"blocks={{{label}: {{{axes[0]}: {label}}}}}"
    raise UserError(f"{error}\n  '{label}' is a choice of {', '.join(axes)}: make a block of it with {way_out}")
