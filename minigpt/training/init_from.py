"""Starting from the weights of a run, a checkpoint or another project: which model that is, whether everything fits."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from minigpt import registry, schema
from minigpt.checkpoint_folder import content_hash, find_checkpoint, verified
from minigpt.config import ModelConfig, TrainConfig
from minigpt.data.dataset import Dataset
from minigpt.data.tiktoken_bpe import PROBE
from minigpt.data.tokenizers import Tokenizer
from minigpt.errors import UserError
from minigpt.exchange.fingerprint import fingerprint
from minigpt.exchange.opened import Opened, open_foreign
from minigpt.model import GPT, ModelSpec, read_spec
from minigpt.model.checkpoint import TOKENIZER, start_from, start_with
from minigpt.training.companions import refuse_other_tokenizer

_LAYOUT = ("blocks", "pattern", "layers", "repeat_pattern")
_ITS_OWN = ("init", "seed")  # of a ModelSpec: what the new run chooses for itself


def find_parent(path: str, plan: GPT, dataset: Dataset) -> dict[str, str]:
    """Whose weights ``path`` means, a run's, a checkpoint's or another project's, and their hash, as fields of a
    RunRecord.

    Raises UserError unless the model of ``plan`` can start from it and read ``dataset``.
    """
    try:
        foreign = _foreign(path, plan.spec.block_size)
        if foreign is not None:
            _refuse_other_tokens(foreign, dataset)
            _fits(plan, foreign)
            return {"parent": str(foreign.place), "parent_hash": fingerprint(foreign.place)}
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
    foreign = _foreign(parent, spec.block_size)
    filled = start_from(model, parent) if foreign is None else _start_foreign(model, foreign)
    new = {name for name, _ in model.named_parameters()} - filled
    model.initialiser(frozenset(new)).walk(model, model.blocks)
    return model


def _foreign(path: str, block_size: int | None) -> Opened | None:
    """Another project's model, its context cut to ``block_size`` where it is longer; None where ``path`` is ours."""
    foreign = open_foreign(path)
    if foreign is None or block_size is None or block_size >= foreign.spec.block_size:
        return foreign
    return open_foreign(path, block_size=block_size)


def _weights(foreign: Opened) -> dict[str, Tensor]:
    return {name: foreign.tensors.read(name) for name in foreign.tensors.forms()}


def _fits(plan: GPT, foreign: Opened) -> frozenset[str]:
    """The names of the tensors that a model without memory would get; raises UserError when they do not fit it."""
    if plan.spec.transforms:  # which convert numbers
        return start_with(plan, foreign.spec, _weights(foreign), foreign.place)
    forms = foreign.tensors.forms()
    shapes = {name: torch.empty(form.shape, dtype=form.dtype, device="meta") for name, form in forms.items()}
    return start_with(plan, foreign.spec, shapes, foreign.place)


def _start_foreign(model: GPT, foreign: Opened) -> frozenset[str]:
    if model.spec.transforms:
        return start_with(model, foreign.spec, _weights(foreign), foreign.place)
    filled = _fits(GPT.on_meta(model.spec), foreign)
    with torch.no_grad():
        for name in filled:  # one at a time: the model alone has to fit into memory
            model.get_parameter(name).copy_(foreign.tensors.read(name))
    return filled


def _refuse_other_tokens(foreign: Opened, dataset: Dataset) -> None:
    """Raise UserError when the tokens of another project's model mean other texts than the dataset's."""
    theirs, ours = foreign.checked_tokenizer(), dataset.tokenizer
    if not _same_tokens(theirs, ours):
        place, way = foreign.place, "prepare the text in its tokens: python data/prepare.py ... tokenizer_of="
        raise UserError(
            f"{place}: its tokens ({theirs.kind}, {theirs.vocab_size}) are not those of dataset '{dataset.name}' "
            f"({ours.kind}, {ours.vocab_size}).\n  "
            + (f"P{way[1:]}{place}" if place.is_dir() else f"minigpt import source={place} out=<new>, then {way}<new>")
        )


def _same_tokens(one: Tokenizer, other: Tokenizer) -> bool:
    """Whether two tokenizers, of different kinds maybe, give a text the same tokens: as far as one can see from every
    token's text and from a text with all that cuts are made by."""
    if one.to_json() == other.to_json():
        return True
    if one.vocab_size != other.vocab_size or not np.array_equal(one.token_bytes(), other.token_bytes()):
        return False
    if any(one.decode([token]) != other.decode([token]) for token in range(one.vocab_size)):
        return False
    try:
        return all(np.array_equal(one.encode(text), other.encode(text)) for text in (PROBE, PROBE.swapcase()))
    except UserError:
        return False  # a vocabulary of characters, which lacks some of it


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
        path = str(content["init_from"])
        foreign = _foreign(path, _typed_size(content, typed))
        stored = schema.plain(read_spec(find_checkpoint(path)) if foreign is None else foreign.spec)
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


def _typed_size(content: Mapping[str, Any], typed: set[str]) -> int | None:
    """The context somebody chose; None when nobody has, or it is no length."""
    size = content["model"].get("block_size")
    usual = schema.defaults(ModelConfig)["block_size"]
    chosen = "model.block_size" in typed or size != usual
    return size if chosen and type(size) is int and size > 0 else None


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
