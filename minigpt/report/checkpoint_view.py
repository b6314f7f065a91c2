"""One checkpoint, of ours, of nanoGPT or of Hugging Face: what it says of itself, and every tensor in it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from minigpt.checkpoint_folder import find_checkpoint, read_json, read_meta, verified
from minigpt.exchange import heads
from minigpt.report.listing import nanogpt_parts
from minigpt.report.listing_table import finite
from minigpt.report.numbers import count
from minigpt.screen import say, visible

_FIGURES = ("mean", "std", "min", "max")


@dataclasses.dataclass(frozen=True)
class View:
    """meta: what is known of its training. model: what it is. roles: of tensors, by name, where they are known."""

    path: Path
    kind: str
    meta: Mapping[str, Any]
    model: Mapping[str, Any]
    tensors: Mapping[str, heads.TensorHead]
    roles: Mapping[str, Any]


def view(path: Path) -> View:
    """Look into a run's folder (its best checkpoint, else its last), a checkpoint's, a nanoGPT ``ckpt.pt`` or a Hugging
    Face folder. Raises UserError when there is none, or it is torn."""
    if path.is_file():
        if path.suffix == ".safetensors":
            return View(path, "safetensors", {}, {}, heads.read_safetensors(path), {})
        content = heads.read_torch(path)
        model, arguments = nanogpt_parts(content)
        return View(path, "nanogpt", _scalars(content), arguments, heads.tensors_in(model), {})
    if (path / "config.json").is_file() and not (path / "meta.json").is_file():
        return View(path, "huggingface", {}, heads.read_config(path), heads.read_weights(path), {})
    folder = find_checkpoint(path)
    verified(folder, ("model.safetensors", "model.json"))
    meta, spec = read_meta(folder), read_json(folder, "model.json")
    roles: dict[str, Any] = meta["roles"] if isinstance(meta.get("roles"), dict) else {}
    said = {key: value for key, value in meta.items() if key not in ("format", "files", "roles")}
    return View(folder, "checkpoint", said, spec, heads.read_safetensors(folder / "model.safetensors"), roles)


def _scalars(content: Mapping[str, Any]) -> dict[str, Any]:
    """What a training says of itself in plain words and numbers, those in a tensor of one number included."""
    found = {key: value for key, value in content.items() if isinstance(value, (str, int, float))}
    for key, value in content.items():
        if isinstance(value, heads.TensorHead) and value.shape == () and (inside := value.values()) is not None:
            found[key] = inside.tolist()[0]
    return found


def show(path: Path, *, as_json: bool) -> None:
    """Print what a checkpoint is, and name, role, shape, type and statistics of every tensor in it."""
    seen = view(path)
    tensors = [statistics(name, seen.tensors[name], seen.roles) for name in sorted(seen.tensors, key=_in_order)]
    if as_json:
        content = {"folder": str(seen.path), "kind": seen.kind, "meta": seen.meta, "model": seen.model}
        print(json.dumps(finite(content | {"tensors": tensors}), indent=1, default=str))
        return
    total = f"{count(heads.parameters(seen.tensors))} numbers in {len(tensors)} tensors"
    meta = [f"{key} {value}" for key, value in seen.meta.items()]
    say(f"{seen.path}: {', '.join([seen.kind, *meta, total])}")
    sizes = {k: v for k, v in seen.model.items() if not isinstance(v, (dict, list))}
    say("model: " + ", ".join(f"{key} {value}" for key, value in sizes.items()))
    rows = [[each["name"], each["role"], _shape(each["shape"]), each["dtype"], *_figures(each)] for each in tensors]
    _print_table(["tensor", "role", "shape", "type", *_FIGURES], rows)


def _print_table(head: list[str], rows: list[list[str]]) -> None:
    lines = [[visible(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    for line in lines:
        cells = [c.ljust(w) if i < 4 else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))]
        say("  ".join(cells).rstrip())


def statistics(name: str, tensor: heads.TensorHead, roles: Mapping[str, Any]) -> dict[str, Any]:
    """One record of a tensor, read by itself; numbers are None for a type numpy does not have."""
    record = {"name": name, "role": str(roles.get(name, "-")), "shape": list(tensor.shape), "dtype": tensor.dtype}
    values = tensor.values()
    if values is None or not values.size:
        return record | dict.fromkeys(_FIGURES)
    wide = values.astype("f8")
    return record | {"mean": wide.mean(), "std": wide.std(), "min": wide.min(), "max": wide.max()}


def _figures(record: Mapping[str, Any]) -> list[str]:
    return ["-" if record[key] is None else format(record[key], ".4g") for key in _FIGURES]


def _in_order(name: str) -> list[Any]:
    return [(int(part), "") if part.isdecimal() and len(part) < 20 else (-1, part) for part in name.split(".")]


def _shape(shape: list[int]) -> str:
    return " x ".join(map(str, shape)) or "scalar"
