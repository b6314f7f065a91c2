"""A Hugging Face folder: config.json, safetensors in one file or several, the tokenizer's files. Read and written.

The folder may be a stranger's: files are read within limits, and nothing leads out of it. The one exception are the
links of Hugging Face's own cache, ``snapshots/<revision>/<file> -> ../../blobs/<hash>``.
"""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from minigpt.data.tokenizers import Tokenizer
from minigpt.errors import UserError, shown
from minigpt.exchange.heads import read_torch, tensors_in
from minigpt.exchange.tensor_files import SafetensorsFiles, Tensors, in_files, size_of, write_safetensors
from minigpt.exchange.torch_files import TorchTensors
from minigpt.files import plainly, read_json, replace_folder

CONFIG, WEIGHTS, INDEX, TOKENIZER = "config.json", "model.safetensors", "model.safetensors.index.json", "tokenizer.json"
PICKLED = "pytorch_model.bin"
_SHARD = re.compile(r"[A-Za-z0-9][\w.-]{0,150}\.safetensors")
_MOST_SHARDS = 2000
SHARD_MIB = 4096


def read_object(folder: Path, name: str) -> dict[str, Any]:
    """The JSON object in a file of the folder; raises UserError for anything else."""
    content = read_json(plain_file(folder, name))
    if not isinstance(content, dict):
        raise UserError(f"{folder / name}: expected an object of keys and values, got '{shown(content)}'")
    return content


def plain_file(folder: Path, name: str) -> Path:
    """A file of the folder, which has to be one of its own; raises UserError when it is missing or leads elsewhere."""
    file = folder / name
    with plainly(file, "read"):
        if file.is_symlink():
            target = file.resolve(strict=True)
            if target.parent != folder.resolve().parent.parent / "blobs":
                raise UserError(f"{file}: is a link, which could lead anywhere; expected a file of its own")
            file = target
        if not stat.S_ISREG(file.stat().st_mode):
            raise UserError(f"{folder / name}: is no plain file")
    return file


def open_tensors(folder: Path) -> Tensors:
    """Its tensors, in one file or in those that an index lists."""
    if (folder / INDEX).is_file() and not (folder / WEIGHTS).is_file():
        return SafetensorsFiles(folder / INDEX, _shards(folder))
    if not (folder / WEIGHTS).exists() and (folder / PICKLED).is_file():
        file = plain_file(folder, PICKLED)
        return TorchTensors(file, tensors_in(read_torch(file)))
    if not (folder / WEIGHTS).exists():
        raise UserError(f"{folder}: no weights in it: expected {WEIGHTS}, {INDEX} or {PICKLED}")
    return SafetensorsFiles(plain_file(folder, WEIGHTS))


def _shards(folder: Path) -> dict[str, Path]:
    """Tensor -> the file it is in."""
    listed = read_object(folder, INDEX).get("weight_map")
    if not isinstance(listed, Mapping) or not listed:
        raise UserError(f"{folder / INDEX}: expected a weight_map of tensors and files")
    names = sorted({str(name) for name in listed.values()})
    for name in names:
        if not _SHARD.fullmatch(name):
            raise UserError(f"{folder / INDEX}: '{shown(name)}': expected a safetensors file of this folder")
    if len(names) > _MOST_SHARDS:
        raise UserError(f"{folder / INDEX}: {len(names)} files, at most {_MOST_SHARDS}")
    files = {name: plain_file(folder, name) for name in names}
    return {str(tensor): files[name] for tensor, name in listed.items()}


def open_tokenizer(folder: Path) -> Tokenizer:
    """Its tokenizer; raises UserError when there is none we read."""
    from minigpt.data.hf_files import CONFIG as OPTIONS
    from minigpt.data.hf_files import TEMPLATE, read_tokenizer

    if not (folder / TOKENIZER).is_file():
        raise UserError(
            f"{folder}: no {TOKENIZER}. Where there are vocab.json and merges.txt or tokenizer.model alone, have "
            f"transformers write one: AutoTokenizer.from_pretrained(...).save_pretrained(...)"
        )
    for name in (TOKENIZER, OPTIONS, TEMPLATE):
        if (folder / name).exists() or (folder / name).is_symlink():
            plain_file(folder, name)
    return read_tokenizer(folder)


def write_folder(
    folder: Path,
    config: Mapping[str, Any],
    tensors: Tensors,
    tokenizer: Tokenizer,
    *,
    shard_mib: int = SHARD_MIB,
) -> list[Path]:
    """Write a folder that is not there yet, whole or not at all; returns its files. One tensor is held at a time."""
    from minigpt.data.hf_files import huggingface_config, to_huggingface

    words = {TOKENIZER: to_huggingface(tokenizer), "tokenizer_config.json": huggingface_config(tokenizer)}
    forms = tensors.forms()
    parts = list(in_files(forms, shard_mib << 20))

    def fill(new: Path) -> None:
        for name, content in {CONFIG: dict(config), **words}.items():
            (new / name).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        if len(parts) == 1:
            write_safetensors(new / WEIGHTS, forms, tensors.read)
            return
        where: dict[str, str] = {}
        for number, part in enumerate(parts, start=1):
            name = f"model-{number:05}-of-{len(parts):05}.safetensors"
            write_safetensors(new / name, part, tensors.read)
            where |= dict.fromkeys(part, name)
        total = sum(map(size_of, forms.values()))
        index = {"metadata": {"total_size": total}, "weight_map": where}
        (new / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")

    if folder.exists() or folder.is_symlink():
        raise UserError(f"out: {folder} is there already and is not overwritten. Choose another name")
    with plainly(folder):
        replace_folder(folder, fill)
    return sorted(folder.iterdir())
