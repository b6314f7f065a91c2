"""Tensors of a file that ``torch.save`` wrote. It is a pickle: only tensors and plain containers in it are read, by a
reader that can call nothing, and numbers come one tensor at a time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from minigpt.errors import UserError, shown
from minigpt.exchange.heads import TensorHead
from minigpt.exchange.tensor_files import BY_NAME, Form

_WRAPPED = ("_orig_mod.", "module.")
"""What compiling and training on several devices put in front of names."""


class TorchTensors:
    """Tensors by name. place: the file. Raises UserError for one whose numbers do not lie side by side."""

    def __init__(self, place: Path, heads: Mapping[str, TensorHead]):
        self.place = place
        self._heads = {plain_name(name): head for name, head in heads.items()}
        if len(self._heads) < len(heads):
            raise UserError(f"{place}: holds two tensors of one name")
        for name, head in self._heads.items():
            if head.place is None:
                raise UserError(f"{place}: {shown(name)} is a view with gaps; save it contiguous")

    def forms(self) -> dict[str, Form]:
        return {name: Form(BY_NAME.get(head.dtype), head.shape) for name, head in self._heads.items()}

    def read(self, name: str) -> Tensor:
        head = self._heads[name]
        values = torch.from_numpy(head.values().copy()).to(BY_NAME[head.dtype])
        return values.view(head.shape) if head.steps is None else values.as_strided(head.shape, head.steps)


def plain_name(name: str) -> str:
    """A tensor's name as the model itself calls it."""
    while prefix := next((each for each in _WRAPPED if name.startswith(each)), ""):
        name = name.removeprefix(prefix)
    return name


def number(value: Any) -> float | None:
    """A figure that stands in a checkpoint as a number or as a tensor of one; None for anything else."""
    if isinstance(value, TensorHead):
        numbers = value.values() if value.size == 1 else None
        return None if numbers is None or not len(numbers) else float(numbers[0])
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
