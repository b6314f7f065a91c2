"""What a variant says its state takes and moves, held to the memory that is there."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from minigpt.cost import Work
from minigpt.model import GPT
from minigpt.testing.cases import Case
from minigpt.testing.census import told_apart
from minigpt.testing.contract import STARTS_ONLY, contract, require
from minigpt.testing.counts import Claims
from minigpt.testing.models import batch, moved_model
from minigpt.testing.walk import memory_bits, tensors_in

CAPACITIES = (24, 40)
MANY = 3


@contract(not_for=STARTS_ONLY)
def check_state_memory(case: Case) -> None:
    """A state holds the memory it says, found by walking everything that hangs on it, at two capacities."""
    model = moved_model(case, torch.float32)
    for capacity in CAPACITIES:
        said = model.cost(Work(1, 1, capacity, cache_bits=32)).total.state_bits
        for one, many in zip(_filling(model, 1, capacity), _filling(model, MANY, capacity), strict=True):
            per_row = (many.held - one.held) / (MANY - 1)  # what does not grow with the rows is bookkeeping
            sentence = f"for {capacity} tokens cost() says {said} bits of state per sequence, after {one.seen} it holds"
            require(per_row == said, f"{sentence} {per_row:.0f}")
            sentence = f"a state for {capacity} tokens says it has {many.said} bits, it has {MANY * per_row:.0f}"
            require(many.said == MANY * per_row, sentence)
            beside, allowed = one.held - per_row, 64 * (capacity + 8) * (len(model.blocks) + 1)
            require(beside <= allowed, f"a state for {capacity} tokens keeps {beside:.0f} bits that belong to no row")


@contract(not_for=STARTS_ONLY)
def check_state_traffic(case: Case) -> None:
    """What a decode step reads from its state and writes into it is what it says."""
    model = moved_model(case, torch.float32)
    for context in (7, CAPACITIES[0] - 1):
        one, many = (_moved_bits(model, rows, context) for rows in (1, MANY))
        claims = Claims(model, Work(1, 1, context, dense=True, cache_bits=32))
        total = claims.cost.total
        for what, said, more, found in (
            ("read", total.state_read_bits, claims.forms["state_read_bits"], many.read - one.read),
            ("written", total.state_written_bits, claims.forms["state_written_bits"], many.written - one.written),
        ):
            per_row = found / (MANY - 1)
            sentence = f"a decode step at token {context} says {said} bits of state are {what}, {per_row:.0f} are"
            require(abs(said + more - per_row) <= 0.02 * per_row, sentence)


@dataclasses.dataclass(frozen=True)
class _Moved:
    read: int
    written: int


@dataclasses.dataclass(frozen=True)
class _Memory:
    """Of a state: tokens seen, bits it holds, bits it says."""

    seen: int
    held: int
    said: int


def _filling(model: GPT, rows: int, capacity: int) -> list[_Memory]:
    """A state that is filled up, many tokens at once, then some one by one."""
    state, found = model.new_state(rows, capacity), []
    with torch.no_grad():
        for chunk in batch(rows, capacity).split([capacity - 7, 3, 1, 1, 1, 1], dim=1):
            model(chunk, state)
            found.append(_Memory(state.seen, memory_bits(state, ignore=model.modules()), state.bits))
    return found


def _moved_bits(model: GPT, rows: int, context: int) -> _Moved:
    """Bits of state that the step to ``context`` tokens touches."""
    state, tokens = model.new_state(rows, CAPACITIES[0]), batch(rows, context)
    with torch.no_grad():
        model(tokens[:, :-1], state)
        other = copy.deepcopy(state)
        held = _memories(state, model)
        before = [_bytes(t).clone() for t in held]
        reads = _Reads(held)
        with told_apart(model, reads.within), reads:
            model(tokens[:, -1:], state)
        kept = [_unchanged(t, old) for t, old in zip(held, before, strict=True)]
        # What is written may be what was there, such as a zero: it shows where something else was.
        held_again = _memories(other, model)
        for tensor, same in zip(held_again, kept, strict=True):
            _move(tensor, same)
        before = [_bytes(t).clone() for t in held_again]
        model(tokens[:, -1:], other)
    still = [_unchanged(t, old) & same for t, old, same in zip(held_again, before, kept, strict=True)]
    written = sum(8 * t.itemsize * int((~same).sum()) for t, same in zip(held, still, strict=True))
    known = {_storage(t) for t in held}
    for tensor in _memories(state, model):
        if _storage(tensor) not in known:  # in place of another
            written += 8 * _bytes(tensor).numel()
    return _Moved(reads.bits, written)


def _memories(state: Any, model: GPT) -> list[Tensor]:
    """One tensor for each piece of memory in a state."""
    return list({_storage(t): t for t in tensors_in(state, ignore=model.modules())}.values())


def _unchanged(tensor: Tensor, before: Tensor) -> Tensor:
    """Which elements of the memory a tensor lies in have the bytes they had."""
    return (_bytes(tensor) == before).view(-1, tensor.itemsize).all(dim=1)


def _move(tensor: Tensor, where: Tensor) -> None:
    """Give the numbers there other values; places and counts stay what they are."""
    if tensor.is_floating_point():
        flat = torch.empty(0, dtype=tensor.dtype).set_(tensor.untyped_storage())
        flat[where] += 1


class _Reads(TorchDispatchMode):
    """Marks every element of some tensors that an operation takes in, for each part apart: two read it twice."""

    def __init__(self, tensors: list[Tensor]):
        super().__init__()
        self.within = [""]
        self._held = {_storage(t): t for t in tensors}
        self._marks: dict[tuple[str, int], Tensor] = {}

    @property
    def bits(self) -> int:
        return sum(8 * self._held[s].itemsize * int(mark.sum()) for (_, s), mark in self._marks.items())

    def __torch_dispatch__(self, func, kinds, args=(), kwargs=None):
        if not func.is_view:
            written = [a for a, spec in zip(args, func._schema.arguments, strict=False) if _is_written(spec)]
            for tensor in tree_leaves((args, kwargs)):
                if (
                    isinstance(tensor, Tensor)
                    and _storage(tensor) in self._held
                    and not any(tensor is w for w in written)
                ):
                    self._mark(tensor)
        return func(*args, **(kwargs or {}))

    def _mark(self, tensor: Tensor) -> None:
        key = (self.within[-1], _storage(tensor))
        if key not in self._marks:
            self._marks[key] = torch.zeros(_bytes(tensor).numel() // tensor.itemsize, dtype=torch.bool)
        self._marks[key].as_strided(tensor.shape, tensor.stride(), tensor.storage_offset()).fill_(True)


def _is_written(argument: Any) -> bool:
    return argument.alias_info is not None and argument.alias_info.is_write


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _bytes(tensor: Tensor) -> Tensor:
    return torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage())
