"""A model as a flat table of what it is: what two models are compared by, whoever described them in which words.

``shape_of`` spells a ModelSpec out: one entry per option of every part that is really there, under ``axis.site.option``
(``norm.qk.eps``), options that stand for another one resolved. ``spec_of`` builds a ModelSpec from the paths a family's
table uses: ``d_model``, ``norm.eps``, ``sites.linear.q.bias``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from minigpt import registry
from minigpt.blocks import resolve_sites
from minigpt.components.base import Part
from minigpt.errors import UserError
from minigpt.model import GPT, ModelSpec
from minigpt.registry import Spec
from minigpt.schema import plain, typed

SIZES = ("d_model", "n_head", "head_dim", "n_layer", "block_size", "vocab_size", "tie_embeddings")
_TRAINING_ALONE = {"attention.dropout", "embedding.file", "embedding.frozen"}
_RESOLVED = {"mlp.expansion", "mlp.multiple_of"}  # hidden says what came of them
Shape = dict[str, Any]


def shape_of(model: GPT) -> Shape:
    """What a model, which may be on meta, is: key -> value, or a tuple of one value per layer where they differ.

    Raises UserError for what no other project's file can say: shared layers, transforms.
    """
    spec = model.spec
    for order in ("block", "attention", "mlp"):
        if (shared := getattr(spec.share, order)) != "none":
            raise UserError(f"share.{order}: {shared}: layers that share weights cannot be written for other projects")
    if spec.transforms:
        raise UserError(f"transforms: {spec.transforms[0]} rewrites the model, no other project knows it")
    shape: Shape = {name: getattr(spec, name) for name in SIZES}
    for axis in ("embedding", "head"):
        shape |= _options(axis, spec.parts[axis], getattr(model, axis), spec)
    layers = [_layer(block, described, spec) for block, described in zip(model.blocks, spec.blocks, strict=True)]
    for key in dict.fromkeys(key for layer in layers for key in layer):
        values = tuple(layer.get(key, "absent") for layer in layers)
        shape[key] = values[0] if len(set(values)) == 1 else values
    outside = [("position", model.position), ("residual", model.residual), ("norm.final", model.final_norm)]
    outside += [("norm.embedding", model.embedding_norm), ("linear.head", model.head.linear)]
    for prefix, part in outside:
        if part is not None:
            axis, _, site = prefix.partition(".")
            shape |= _options(prefix, spec.default.spec(axis, site or None), part, spec)
    return shape


def _layer(block: nn.Module, described: Any, spec: ModelSpec) -> Shape:
    """The options of every part of one block."""
    shape: Shape = {}
    for part in block.modules():
        if isinstance(part, Part) and hasattr(part, "axis"):  # what a family of variants shares has none
            prefix = part.axis if part.site is None else f"{part.axis}.{part.site}"
            shape |= _options(prefix, described.spec(part.axis, part.site), part, spec)
    return shape


def _options(prefix: str, chosen: Spec, part: Any, spec: ModelSpec) -> Shape:
    """One part's options under ``prefix``; those that stand for another value are resolved."""
    if prefix == "linear.head" and type(part).name != chosen.name:
        chosen = registry.default("linear")  # the head is plain unless its site says otherwise
    found = {f"{prefix}.{option}": value for option, value in plain(chosen).items()}
    axis = prefix.partition(".")[0]
    if axis in ("norm", "linear"):
        found.pop(f"{prefix}.bias", None)
        found[f"{prefix}.bias"] = getattr(part, "bias", None) is not None
    for name in ("mlp.hidden", "attention.n_kv_head", "attention.window"):
        if prefix == name.partition(".")[0] and name in found:
            found[name] = getattr(part, name.partition(".")[2])
    if "attention.window" in found and found["attention.window"] == spec.block_size:
        found["attention.window"] = None
    if found.get("attention.scale_width", 0) is None:
        found["attention.scale_width"] = spec.head_dim
    return {key: value for key, value in found.items() if key not in _TRAINING_ALONE | _RESOLVED}


def all_of(shape: Shape, path: str) -> list[Any]:
    """The values of a table's path at all sites of its axis; none where the model has no such part."""
    path = path.removeprefix("sites.")
    if path in shape:
        return [shape[path]]
    axis, _, option = path.partition(".")
    return [value for key, value in shape.items() if key.startswith(f"{axis}.") and key.endswith(f".{option}")]


def spec_of(values: Mapping[str, Any], windows: Sequence[int | None] | None = None) -> ModelSpec:
    """The ModelSpec of a table's paths and values. windows: one per layer, where the attention has some.

    Raises UserError for a value that is out of range or missing.
    """
    sizes = {name: values[name] for name in SIZES if name in values}
    nodes: dict[str, Any] = {}
    for path, value in values.items():
        if path not in (*SIZES, "bias"):
            _put(nodes, path.split("."), value)
    sites = nodes.pop("sites", {})
    nodes = {axis: {"name": registry.default(axis).name} | node for axis, node in nodes.items()}
    parts = {axis: nodes.pop(axis) for axis in registry.axes("model") if axis in nodes}
    n_layer = sizes.get("n_layer")
    rest = {"bias": values["bias"], "dropout": 0.0, "seed": 0}
    default = {"label": "default", **nodes}
    spec = typed(ModelSpec, {**sizes, **rest, **parts, "default": default, "blocks": []})
    sited = resolve_sites(spec.default.parts, _said(sites, spec), "sites")
    block = dataclasses.replace(spec.default, sites=sited)
    blocks = [block] * int(n_layer or 0)
    kinds = {window: label for window, label in _labels(windows)}
    if windows is not None:
        blocks = [block.varied(kinds[window], {"attention": {"window": window}}, "layers") for window in windows]
        block = next((each for each in blocks if each.label == "default"), block)
    return dataclasses.replace(spec, default=block, blocks=tuple(blocks))


def _labels(windows: Sequence[int | None] | None) -> list[tuple[int | None, str]]:
    """(window, label of its block): that of the first layer is the default."""
    kinds = list(dict.fromkeys(windows or ()))
    names = ["full" if window is None else f"window_{window}" for window in kinds]
    return list(zip(kinds, ["default", *names[1:]], strict=True)) if kinds else []


def _said(sites: Mapping[str, Any], spec: ModelSpec) -> dict[str, Any]:
    """Sites without those that say what their place has anyway: whether a linear map has a bias."""
    said: dict[str, Any] = {}
    for axis, places in sites.items():
        for site, node in places.items():
            usual = spec.bias and site != "head"
            if node != {"bias": usual} and not (site == "head" and spec.tie_embeddings):
                said.setdefault(axis, {})[site] = node
    return said


def _put(nodes: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for name in path[:-1]:
        nodes = nodes.setdefault(name, {})
    nodes[path[-1]] = value
