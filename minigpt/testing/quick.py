"""The quick check: whether a variant from outside looks back only, before anything is trained with it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch

from minigpt import registry, schema
from minigpt.device import is_out_of_memory
from minigpt.errors import UserError
from minigpt.model import GPT, ModelSpec
from minigpt.registry import Spec
from minigpt.testing.models import batch, create, difference, moved, other_tokens

ROWS, TOKENS = 2, 72
WIDTH = 8  # of a head, where the parts allow it
EXACT = 1e-5


def quick_check(spec: ModelSpec) -> None:
    """Raise UserError if a model with parts from outside minigpt sees the future, or its cache says something else.

    Runs in well under a second on a small model of the same parts; a model of shipped parts alone is not tried.
    """
    found = {f"{part.axis}={part.name}": _module(part) for part in chosen_parts(spec)}
    outside = {part: module for part, module in sorted(found.items()) if not module.startswith("minigpt.")}
    if not outside:
        return
    try:
        with torch.random.fork_rng(devices=[]):
            fault = _fault(moved(create(_small(spec))).double())
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return  # training meets it too, and records the run as out of memory
    if fault:
        words = " ".join([*dict.fromkeys(outside.values()), *outside])
        raise UserError(f"{', '.join(outside)}: {fault}. Find it with: minigpt check {words}")


def chosen_parts(node: object) -> list[Spec]:
    """Every component chosen anywhere in a configuration."""
    if isinstance(node, Spec):
        return [node, *chosen_parts(node.options)]
    if dataclasses.is_dataclass(node):
        return [part for field in dataclasses.fields(node) for part in chosen_parts(getattr(node, field.name))]
    if isinstance(node, Mapping):
        return [part for value in node.values() for part in chosen_parts(value)]
    if isinstance(node, list | tuple):
        return [part for value in node for part in chosen_parts(value)]
    return []


def _module(part: Spec) -> str:
    return registry.entry(part.axis, part.name).module


def _small(spec: ModelSpec) -> ModelSpec:
    """One layer of each kind, narrow, with few words; as wide as the original where the parts refuse to be narrow."""
    blocks = tuple({schema.plain(b).__repr__(): b for b in spec.blocks}.values())
    few = dataclasses.replace(spec, n_layer=len(blocks), blocks=blocks, vocab_size=64, dropout=0.0)
    narrow = dataclasses.replace(few, head_dim=WIDTH, d_model=WIDTH * spec.n_head)
    try:
        GPT.on_meta(narrow)
    except UserError:
        return few
    return narrow


def _fault(model: GPT) -> str:
    """What is wrong, in a clause; nothing if all is well."""
    length = min(TOKENS, model.spec.block_size)
    tokens = batch(ROWS, length)
    runs = []
    for train in (True, False):
        model.train(train)
        before = model(tokens).logits.detach()
        for t in sorted({length // 2, length - 1} - {0}):
            after = model(other_tokens(tokens, t)).logits.detach()
            if difference(after[:, :t], before[:, :t]) > EXACT:
                return f"sees the future: tokens from {t} on change what is said before them"
        runs.append(before)
    with torch.no_grad():
        state = model.new_state(ROWS, length)
        chunks = tokens.split([*_chunks(length)], dim=1)
        cached = torch.cat([model(chunk, state).logits for chunk in chunks], dim=1)
    if difference(cached, runs[-1]) > EXACT:
        return "says something else from its cache than in full"
    return ""


def _chunks(length: int) -> list[int]:
    """A prefill in two, then some tokens one by one."""
    singles = min(4, length - 1)
    first = (length - singles + 1) // 2
    return [n for n in (first, length - singles - first, *[1] * singles) if n]
