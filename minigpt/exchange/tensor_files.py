"""Tensors in files, one at a time: no model has to fit into memory to go from one form to another."""

from __future__ import annotations

import contextlib
import json
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from minigpt.errors import UserError, shown
from minigpt.files import plainly

DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
}
"""What weights may be of here, and what safetensors calls it."""
BY_NAME = {name: dtype for dtype, name in DTYPES.items()}


class Form(NamedTuple):
    """What is known of a tensor without reading it. dtype: None for one that holds no weights as they are."""

    dtype: torch.dtype | None
    shape: tuple[int, ...]


class Tensors(Protocol):
    """Named tensors somewhere. place: where, for messages."""

    place: Path

    def forms(self) -> Mapping[str, Form]: ...

    def read(self, name: str) -> Tensor: ...


class SafetensorsFiles:
    """The tensors of one or several safetensors files. files: of each tensor; None is all that ``place`` holds."""

    def __init__(self, place: Path, files: Mapping[str, Path] | None = None):
        self.place = place
        self._open: dict[Path, Any] = {}
        with contextlib.ExitStack() as stack:
            for file in dict.fromkeys(files.values() if files is not None else [place]):
                with _readable(file):
                    self._open[file] = stack.enter_context(safe_open(file, framework="pt", device="cpu"))
            self._closing = stack.pop_all()
        held = {name: file for file, opened in self._open.items() for name in opened.keys()}  # noqa: SIM118
        self._files = held if files is None else dict(files)
        for name in sorted({*held} ^ {*self._files}):
            raise UserError(f"{place}: {shown(name)} is in it or in its files, not in both: a file is missing or torn")
        for name, file in self._files.items():
            if held[name] != file:
                raise UserError(f"{place}: {shown(name)} is not in {file.name}, where it should be")

    def forms(self) -> dict[str, Form]:
        forms = {}
        for name, file in self._files.items():
            with _readable(file):
                lazy = self._open[file].get_slice(name)
                forms[name] = Form(BY_NAME.get(str(lazy.get_dtype())), tuple(lazy.get_shape()))
        return forms

    def read(self, name: str) -> Tensor:
        with _readable(self._files[name]):
            return self._open[self._files[name]].get_tensor(name)


class _readable:
    """Context manager: what safetensors refuses is a UserError about the file."""

    def __init__(self, file: Path):
        self.file = file

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, (SafetensorError, OSError)):
            raise UserError(f"{self.file}: cannot be read as safetensors ({shown(error)})") from None


def write_safetensors(file: Path, forms: Mapping[str, Form], read: Callable[[str], Tensor]) -> None:
    """Write tensors to a file, each read when its turn has come. Raises UserError when the system refuses."""
    names = sorted(forms, key=lambda name: (-_width(forms[name]), name))  # so that all are aligned
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in names:
        start, end = end, end + size_of(forms[name])
        dtype = forms[name].dtype
        assert dtype is not None
        header[name] = {"dtype": DTYPES[dtype], "shape": list(forms[name].shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with plainly(file), file.open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        for name in names:
            stream.write(_bytes(read(name), forms[name]))


def size_of(form: Form) -> int:
    """Bytes of a tensor."""
    return _width(form) * torch.Size(form.shape).numel()


def _width(form: Form) -> int:
    assert form.dtype is not None
    return torch.empty(0, dtype=form.dtype).element_size()


def _bytes(tensor: Tensor, form: Form) -> memoryview:
    if (tensor.dtype, tuple(tensor.shape)) != form:
        raise ValueError(f"a tensor of {tensor.dtype} {list(tensor.shape)} where {form} was announced")
    return memoryview(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy())  # type: ignore[arg-type]


def in_files(forms: Mapping[str, Form], limit: int) -> Iterator[dict[str, Form]]:
    """Tensors dealt out to files of at most ``limit`` bytes each, in order; a larger tensor has one to itself."""
    part: dict[str, Form] = {}
    held = 0
    for name, form in forms.items():
        if part and held + size_of(form) > limit:
            yield part
            part, held = {}, 0
        part[name] = form
        held += size_of(form)
    yield part
