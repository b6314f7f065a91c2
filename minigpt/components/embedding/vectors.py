"""Vectors made elsewhere, read from a file: untrusted, so as numbers alone and no more of them than expected."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from minigpt.errors import UserError, shown
from minigpt.files import open_to_read

_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read_vectors(file: str, shape: tuple[int, ...]) -> Tensor:
    """The table of this shape in a ``.npy`` file, or the only one of it in a ``.safetensors`` file, in fp32.

    Raises UserError for any other file, shape or kind of number, and for numbers that are not finite.
    """
    kind = Path(file).suffix
    if kind not in _READERS:
        raise UserError(f"embedding.file: '{shown(file)}': expected a .npy or a .safetensors file")
    table = _READERS[kind](Path(file), shape).float()
    if not table.isfinite().all():
        raise UserError(f"embedding.file: {file}: holds numbers that are not finite")
    return table


def _from_npy(file: Path, shape: tuple[int, ...]) -> Tensor:
    with open_to_read(file) as stream:
        try:
            found, by_column, dtype = _HEADERS[np.lib.format.read_magic(stream)](stream)
        except (ValueError, KeyError) as error:
            raise UserError(f"embedding.file: {file}: not a .npy file ({shown(error, 80)})") from None
        if dtype.kind != "f" or dtype.itemsize > 8:
            raise UserError(f"embedding.file: {file}: holds {shown(dtype, 60)}, expected numbers of 16, 32 or 64 bits")
        _refuse_other_shape(file, found, shape)
        content = stream.read(math.prod(shape) * dtype.itemsize)
    if len(content) < math.prod(shape) * dtype.itemsize:
        raise UserError(f"embedding.file: {file}: ends before its last number")
    table = np.frombuffer(content, dtype).reshape(shape, order="F" if by_column else "C")
    return torch.from_numpy(table.astype(np.float32))


def _from_safetensors(file: Path, shape: tuple[int, ...]) -> Tensor:
    from safetensors import SafetensorError, safe_open

    open_to_read(file).close()  # no folder, no pipe
    try:
        with safe_open(file, framework="pt") as tensors:
            shapes = {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118
            fitting = [name for name, found in shapes.items() if found == shape]
            if len(fitting) > 1:
                raise UserError(
                    f"embedding.file: {file}: {shown(', '.join(fitting))} are all of shape {_sizes(shape)}. "
                    f"Take a file with one of them"
                )
            if not fitting:
                _refuse_other_shape(file, next(iter(shapes.values()), ()), shape)
            table = tensors.get_tensor(fitting[0])
    except SafetensorError as error:
        raise UserError(f"embedding.file: {file}: not a .safetensors file ({shown(error, 80)})") from None
    if not table.is_floating_point():
        raise UserError(f"embedding.file: {file}: holds {table.dtype}, expected real numbers")
    return table


_READERS: dict[str, Any] = {".npy": _from_npy, ".safetensors": _from_safetensors}


def _refuse_other_shape(file: Path, found: tuple[int, ...], shape: tuple[int, ...]) -> None:
    if found != shape:
        raise UserError(
            f"embedding.file: {file}: its table is {_sizes(found)}, the model's is {_sizes(shape)}: one row per token. "
            f"Set model.vocab_size and model.d_model, or embedding=factorised with its width as embedding.rank"
        )


def _sizes(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "empty"
