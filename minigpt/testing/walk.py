"""Everything that hangs on an object: how much memory it really holds, whatever it says of itself."""

from __future__ import annotations

import gc
import types
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_OPAQUE = (type, types.ModuleType, types.BuiltinFunctionType, torch.dtype, torch.device, torch.Generator, str)


def tensors_in(root: Any, ignore: Iterable[Any] = ()) -> list[Tensor]:
    """All tensors reachable from ``root`` through any chain of objects, save through those of ``ignore``."""
    return [each for each in _reachable(root, ignore) if isinstance(each, Tensor)]


def memory_bits(root: Any, ignore: Iterable[Any] = ()) -> int:
    """Bits of memory that ``root`` keeps alive in tensors, arrays, byte strings and floats.

    A view counts the whole of what it is a view of, memory shared by several counts once.
    """
    storages: dict[int, int] = {}
    other = 0
    for each in _reachable(root, ignore):
        if isinstance(each, Tensor):
            storage = each.untyped_storage()
            storages[storage._cdata] = storage.nbytes()
        elif isinstance(each, np.ndarray):
            other += each.nbytes
        elif isinstance(each, bytes | bytearray | memoryview):
            other += len(each)
        elif isinstance(each, float):
            other += 8
    return 8 * (sum(storages.values()) + other)


def _reachable(root: Any, ignore: Iterable[Any]) -> Iterator[Any]:
    seen = {id(each) for each in ignore}
    waiting, alive = [root], []
    while waiting:
        each = waiting.pop()
        if id(each) in seen or isinstance(each, _OPAQUE):
            continue
        seen.add(id(each))
        alive.append(each)  # an id stays unique only as long as its object lives
        yield each
        waiting.extend(_referents(each))


def _referents(each: Any) -> list[Any]:
    if isinstance(each, types.FunctionType):  # what it closes over, not the whole module it was written in
        return [*(each.__closure__ or ()), *(each.__defaults__ or ()), each.__dict__]
    if isinstance(each, nn.Parameter):
        return []
    return gc.get_referents(each)
