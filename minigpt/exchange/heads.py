"""What a checkpoint of any project is, from its head alone: names, types and shapes of its tensors, and what it says
of itself.

Weights are not read, torch is not imported, and nothing in a file can run: a torch file is a zip whose pickle is read
by an unpickler that knows tensors and plain containers, a safetensors file begins with JSON. One tensor's values can be
read as numpy afterwards.
"""

from __future__ import annotations

import dataclasses
import io
import itertools
import json
import math
import os
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from minigpt.errors import UserError, shown
from minigpt.files import open_to_read, read_json

LARGEST_PICKLE = 16 << 20
"""Bytes of the largest pickle that is read; that of a model with a thousand tensors and an optimizer takes 1 MB."""
LARGEST_HEADER = 64 << 20
"""Bytes of the largest safetensors header; the format itself allows 100 MB."""
MOST_TENSORS = 200_000

WIDTHS = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1,
    "U16": 2, "U32": 4, "U64": 8, "BOOL": 1,
}  # fmt: skip
"""Bytes of one number, by the name safetensors has for its type."""

_STORAGES = {
    "DoubleStorage": "F64", "FloatStorage": "F32", "HalfStorage": "F16", "BFloat16Storage": "BF16",
    "LongStorage": "I64", "IntStorage": "I32", "ShortStorage": "I16", "CharStorage": "I8", "ByteStorage": "U8",
    "BoolStorage": "BOOL",
}  # fmt: skip
_NUMPY = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1",
    "U16": "<u2", "U32": "<u4", "U64": "<u8", "BOOL": "u1", "BF16": "<u2",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class TensorHead:
    """dtype: as safetensors names it. file, place: where its numbers lie one after the other: first byte of a
    safetensors file, or entry of a torch file and first number in it; None for a view with gaps. storage: tensors with
    the same one share their memory. steps: from one number to the next in each dimension; None is row by row."""

    dtype: str
    shape: tuple[int, ...]
    file: Path
    place: tuple[str, int] | None
    storage: str
    steps: tuple[int, ...] | None = None

    @property
    def size(self) -> int:
        """How many numbers."""
        return math.prod(self.shape)

    def values(self) -> Any:
        """All its numbers as one flat numpy array, in the order of the file; None for a view with gaps, and for a type
        numpy does not have."""
        import numpy as np

        if self.dtype not in _NUMPY or self.place is None:
            return None
        count, width = self.size, WIDTHS[self.dtype]
        entry, start = self.place
        with _refused(self.file), open_to_read(self.file) as stream:
            if entry:
                with zipfile.ZipFile(stream) as archive, archive.open(entry) as inside:
                    inside.seek(start * width)
                    content = inside.read(count * width)
            else:
                stream.seek(start)
                content = stream.read(count * width)
            if len(content) != count * width:
                raise ValueError("it ends before its numbers do")
        numbers = np.frombuffer(content, dtype=_NUMPY[self.dtype])
        return (numbers.astype("<u4") << 16).view("<f4") if self.dtype == "BF16" else numbers


def parameters(tensors: Mapping[str, TensorHead]) -> int:
    """How many numbers there are, those that tensors share counted once."""
    return sum({tensor.storage: tensor.size for tensor in tensors.values()}.values())


def read_safetensors(file: Path) -> dict[str, TensorHead]:
    """Name -> head of every tensor of a safetensors file. Raises UserError for one that is torn or is none."""
    with _refused(file), open_to_read(file) as stream:
        total = os.fstat(stream.fileno()).st_size
        length = int.from_bytes(_exactly(stream, 8), "little")
        if length > min(total - 8, LARGEST_HEADER):
            raise ValueError(f"its header would have {length} bytes, the file has {total}")
        content = json.loads(_exactly(stream, length).decode("utf-8"), object_pairs_hook=_once_each)
        if not isinstance(content, dict) or len(content) > MOST_TENSORS:
            raise ValueError("its header lists no tensors")
        content.pop("__metadata__", None)
        _refuse_overlap(content)
        return {name: _in_safetensors(name, said, file, 8 + length, total) for name, said in content.items()}


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("its header names something twice")
    return found


def _refuse_overlap(content: Mapping[str, Any]) -> None:
    places = sorted((_sizes(said["data_offsets"]), name) for name, said in content.items())
    for ((_, end), name), ((start, _), other) in itertools.pairwise(places):
        if start < end:
            raise ValueError(f"{shown(name, 60)} and {shown(other, 60)} lie in the same place")


def _in_safetensors(name: str, said: Any, file: Path, begin: int, total: int) -> TensorHead:
    dtype, shape, (start, end) = str(said["dtype"]), _sizes(said["shape"]), _sizes(said["data_offsets"])
    expected = math.prod(shape) * WIDTHS[dtype] if dtype in WIDTHS else end - start
    if start > end or end - start != expected or begin + end > total:
        raise ValueError(f"{shown(name, 60)} lies outside the file, which may be cut off")
    return TensorHead(dtype, shape, file, ("", begin + start), name)


def read_torch(file: Path) -> Any:
    """What ``torch.save`` wrote: plain containers, with a TensorHead in place of every tensor.

    Raises UserError for a torn file, one that is no zip (torch wrote others before 1.6), and one that names anything
    but tensors and plain containers.
    """
    with _refused(file), open_to_read(file) as stream:
        if stream.read(4) != b"PK\x03\x04":
            raise ValueError("it is no zip, as torch writes since 1.6; it may be torn, or of another program")
        with zipfile.ZipFile(stream) as archive:
            pickles = [each for each in archive.infolist() if each.filename.endswith("/data.pkl")]
            if len(pickles) != 1:
                raise ValueError("it is a zip without torch's data.pkl")
            if pickles[0].file_size > LARGEST_PICKLE:
                raise ValueError(f"its pickle has {pickles[0].file_size} bytes, more than any model's")
            with archive.open(pickles[0]) as inside:
                content = inside.read(LARGEST_PICKLE + 1)
            return _Heads(content, archive, pickles[0].filename.removesuffix("data.pkl"), file).load()


class _Heads(pickle.Unpickler):
    """Builds plain containers and heads of tensors. Everything else a pickle can name ends here."""

    def __init__(self, content: bytes, archive: zipfile.ZipFile, root: str, file: Path):
        super().__init__(io.BytesIO(content))
        stored = [each for each in archive.infolist() if each.compress_type == zipfile.ZIP_STORED]  # torch packs none
        self._sizes = {each.filename: each.file_size for each in stored}
        self._root, self._file = root, file

    def find_class(self, module: str, name: str) -> Any:
        known = {
            ("collections", "OrderedDict"): _Known(_Dict),
            ("torch._utils", "_rebuild_tensor_v2"): _Known(self._tensor),
            ("torch._utils", "_rebuild_parameter"): _Known(lambda tensor, *_: tensor),
        }
        if (module, name) in known:
            return known[module, name]
        if module in ("torch", "torch.storage") and name in _STORAGES:
            return _STORAGES[name]
        raise pickle.UnpicklingError(f"it names {shown(module, 40)}.{shown(name, 40)}, which is no tensor")

    def persistent_load(self, pid: Any) -> tuple[str, str, int]:
        kind, dtype, key, _, count = pid
        entry = f"{self._root}data/{key}"
        if kind != "storage" or dtype not in WIDTHS or type(count) is not int:
            raise pickle.UnpicklingError("it refers to something that is no tensor")
        if entry not in self._sizes or self._sizes[entry] < count * WIDTHS[dtype]:
            raise pickle.UnpicklingError(f"the numbers of tensor {shown(key, 20)} are missing, it may be cut off")
        return entry, dtype, count

    def _tensor(self, storage: tuple[str, str, int], offset: int, size: Any, stride: Any, *_: Any) -> TensorHead:
        entry, dtype, count = storage
        shape, steps = _sizes(size), _sizes(stride)
        last = offset + sum((n - 1) * step for n, step in zip(shape, steps, strict=True)) if math.prod(shape) else 0
        if not isinstance(offset, int) or not 0 <= offset <= count or last >= max(count, 1):
            raise pickle.UnpicklingError("a tensor lies outside its numbers")
        place = (entry, offset) if _is_dense(shape, steps) else None
        return TensorHead(dtype, shape, self._file, place, f"{entry}:{offset}", steps)


class _Known:
    """A name that a pickle may call. It keeps nothing a pickle would set on it."""

    __slots__ = ("_call",)
    _call: Any

    def __init__(self, call: Any):
        object.__setattr__(self, "_call", call)

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise pickle.UnpicklingError("it changes what it names")

    def __setstate__(self, state: Any) -> NoReturn:
        raise pickle.UnpicklingError("it changes what it names")


class _Dict(dict):  # type: ignore[type-arg]
    """An ordered dict of a pickle, without the attributes that torch hangs on one."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        pass


def read_config(folder: Path) -> dict[str, Any]:
    """The ``config.json`` of a Hugging Face folder. Raises UserError when it is torn or describes no model."""
    content = read_json(folder / "config.json")
    if not isinstance(content, dict) or not ("model_type" in content or "architectures" in content):
        raise UserError(f"{folder / 'config.json'}: describes no model (no model_type, no architectures)")
    return content


def read_weights(folder: Path) -> dict[str, TensorHead]:
    """Name -> head of every tensor of a Hugging Face folder, in one file or several. Raises UserError when there are
    none, or a file is torn or missing."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        return _sharded(index)
    if (folder / "model.safetensors").is_file():
        return read_safetensors(folder / "model.safetensors")
    if (folder / "pytorch_model.bin").is_file():
        return tensors_in(read_torch(folder / "pytorch_model.bin"))
    raise UserError(f"{folder}: no weights in it (model.safetensors, its index, or pytorch_model.bin)")


def _sharded(index: Path) -> dict[str, TensorHead]:
    content = read_json(index)
    names = content["weight_map"] if isinstance(content, dict) and "weight_map" in content else None
    if not isinstance(names, dict) or not all(isinstance(n, str) and Path(n).name == n for n in names.values()):
        raise UserError(f"{index}: expected weight_map, the file of every tensor, beside it")
    found: dict[str, TensorHead] = {}
    for name in sorted(set(names.values())):
        found |= read_safetensors(index.with_name(name))
    if missing := [name for name in names if name not in found]:
        raise UserError(f"{index}: {shown(missing[0], 60)} is in no file (of {len(missing)} such tensors)")
    return found


def tensors_in(content: Any, before: str = "", depth: int = 0) -> dict[str, TensorHead]:
    """Dotted name -> tensor, of all that plain containers hold."""
    if isinstance(content, TensorHead):
        return {before: content}
    found: dict[str, TensorHead] = {}
    if isinstance(content, dict) and depth < 5:
        for key, value in content.items():
            found |= tensors_in(value, f"{before}.{key}" if before else str(key), depth + 1)
    return found


def _is_dense(shape: tuple[int, ...], steps: tuple[int, ...]) -> bool:
    """Whether a tensor takes every number from its first to its last, in whatever order of dimensions."""
    expected = 1
    for step, n in sorted((step, n) for n, step in zip(shape, steps, strict=True) if n != 1):
        if step != expected:
            return False
        expected *= n
    return True


def _sizes(values: Any) -> tuple[int, ...]:
    if not isinstance(values, list | tuple) or not all(type(n) is int and 0 <= n < 2**48 for n in values):
        raise ValueError("a tensor has no shape")
    return tuple(values)


def _exactly(stream: BinaryIO, count: int) -> bytes:
    content = stream.read(count)
    if len(content) < count:
        raise ValueError("it is cut off")
    return content


class _refused:
    """Context manager: whatever a file that is not what it seems makes its reader raise is a UserError about it."""

    def __init__(self, file: Path):
        self.file = file

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, Exception) and not isinstance(error, UserError):
            reason = "nested too deep" if isinstance(error, RecursionError) else shown(error) or type(error).__name__
            raise UserError(f"{self.file}: cannot be read: {reason}") from None
