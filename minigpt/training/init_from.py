"""Starting from the weights of another run or checkpoint: which model that is, and whether everything fits."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from minigpt import registry, schema
from minigpt.checkpoint_folder import content_hash, find_checkpoint, verified
from minigpt.config import ModelConfig, TrainConfig
from minigpt.data.dataset import Dataset
from minigpt.errors import UserError
from minigpt.model import GPT, ModelSpec, read_spec
from minigpt.model.checkpoint import TOKENIZER, start_from
from minigpt.training.companions import refuse_other_tokenizer

_LAYOUT = ("blocks", "pattern", "layers", "repeat_pattern")
_ITS_OWN = ("init", "seed")  # of a ModelSpec: what the new run chooses for itself


def find_parent(path: str, plan: GPT, dataset: Dataset) -> dict[str, str]:
    """The checkpoint that ``path``, a run's folder or a checkpoint's, means, and its hash, as fields of a RunRecord.

    Raises UserError unless the model of ``plan`` can start from it and read ``dataset``.
    """
    try:
        folder = find_checkpoint(path)
        verified(folder, (TOKENIZER,))
        refuse_other_tokenizer(folder, dataset)
        start_from(plan, folder)  # of shapes alone: nothing is filled
    except UserError as error:
        raise UserError(f"init_from: {error}") from None
    return {"parent": str(folder), "parent_hash": content_hash(folder)}


def started(spec: ModelSpec, device: torch.device, parent: str) -> GPT:
    """The model with a checkpoint's weights; what is new in it has its first values."""
    model = GPT.create(spec, device, initialise=False)
    new = {name for name, _ in model.named_parameters()} - start_from(model, parent)
    model.initialiser(frozenset(new)).walk(model, model.blocks)
    return model


def inherited(content: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """With ``init_from``, a composed configuration with the parent's model in place of what nobody has chosen.

    overrides: what was typed, ``key=value``. That, and what is not at its default, is left as it is: whether it fits
    the weights is checked when they are read. A component of another name than the default is taken whole, a single
    option over those of the parent's component.
    """
    content = dict(content)
    if content.get("init_from") is None or content.get("resume") is not None:
        return content
    typed = {override.lstrip("+~").split("=", 1)[0] for override in overrides}
    if "model" in typed:
        raise UserError(
            f"init_from: the model is that of {content['init_from']}; model=<preset> would be another. Leave it out"
        )
    try:
        stored = schema.plain(read_spec(find_checkpoint(str(content["init_from"]))))
    except UserError as error:
        raise UserError(f"init_from: {error}") from None
    sizes = {f.name: stored[f.name] for f in dataclasses.fields(ModelConfig)}
    content["model"] = sizes | _chosen("model", content["model"], schema.defaults(ModelConfig), typed)
    for key, node in {**stored, **stored["default"]}.items():
        if key in registry.axes() and key not in _ITS_OWN:
            content[key] = _component(key, content[key], node, typed)
        elif key in content and key not in (*_LAYOUT, *_ITS_OWN) and _untouched(content, key, typed):
            content[key] = node
    labels = [block["label"] for block in stored["blocks"]]
    if all(_untouched(content, key, typed) for key in _LAYOUT) and set(labels) != {"default"}:
        content["pattern"] = labels
        content["blocks"] = {
            block["label"]: {axis: node for axis, node in block.items() if axis != "label"}
            for block in stored["blocks"]
            if block["label"] != "default"
        }
    return content


def _component(axis: str, here: Mapping[str, Any], there: dict[str, Any], typed: set[str]) -> Mapping[str, Any]:
    default = schema.plain(registry.default(axis))
    if axis in typed or f"{axis}.name" in typed or not _same(axis, here, default):
        return here
    return there | _chosen(axis, here, default, typed)


def _same(axis: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two nodes name one component, by whichever of its names."""
    first, second = (registry.entry(axis, str(node["name"])) for node in (one, other))
    return first == second


def _untouched(content: Mapping[str, Any], key: str, typed: set[str]) -> bool:
    """Whether nobody has said anything about a key that is taken whole."""
    return not any(f"{t}.".startswith(f"{key}.") for t in typed) and content[key] == schema.defaults(TrainConfig)[key]


def _chosen(group: str, here: Mapping[str, Any], default: Mapping[str, Any], typed: set[str]) -> dict[str, Any]:
    """The options of a group that somebody chose: typed, or not at their default."""
    return {k: v for k, v in here.items() if f"{group}.{k}" in typed or k not in default or v != default[k]}
