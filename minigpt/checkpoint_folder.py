"""A checkpoint as a folder of files: replaced whole or not at all, found by run, and read only when nothing is torn.

A crash may leave the complete folder set aside (``files.replace_folder``); readers know both places.
Only JSON is read here, nothing found in a checkpoint is ever executed, and torch is not imported.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from minigpt import files
from minigpt.errors import UserError, did_you_mean
from minigpt.files import (
    DiskFullError,
    beside,
    explained,
    is_disk_full,
    replace_folder,
    settle_folder,
    sha256_of,
    sha256_of_text,
)

META = "meta.json"
CONTENT = ("model.json", "model.safetensors", "tokenizer.json")
FORMAT = 1
PREFERRED = ("best", "last")
"""Which checkpoint of a run is meant when none is named."""


def replace_checkpoint(folder: Path, writers: Mapping[str, Callable[[Path], None]], meta: Mapping[str, Any]) -> None:
    """Replace ``folder`` by one with the files of ``writers`` and a ``meta.json`` that lists their sizes and hashes.

    writers: file name -> what writes it, given its path. When one raises, the old folder stays and nothing is left.
    Raises UserError when ``folder`` is there and is no checkpoint, or the system refuses to write (DiskFullError).
    """

    def fill(new: Path) -> None:
        for name, write in writers.items():
            write(new / name)
        listed = {name: {"bytes": (new / name).stat().st_size, "sha256": sha256_of(new / name)} for name in writers}
        text = json.dumps({"format": FORMAT, **meta, "files": listed}, indent=1) + "\n"
        (new / META).write_text(text, encoding="utf-8")

    try:
        settle_folder(folder)
        if folder.exists() and not (folder / META).is_file() and (not folder.is_dir() or any(folder.iterdir())):
            raise UserError(f"{folder}: is there and is no checkpoint ({META} is missing); it is not overwritten")
        replace_folder(folder, fill)
    except OSError as error:
        raise explained(error, folder) from error
    except Exception as error:  # writers of tensors say it in ways of their own
        if is_disk_full(error):
            raise DiskFullError(f"{folder}: disk full. Make room and start again") from error
        raise


def find_checkpoint(path: Path | str) -> Path:
    """The checkpoint folder that ``path`` means: itself, or a run's ``checkpoint/best``, else ``checkpoint/last``.

    Where a crash interrupted a replacement, that is the complete folder set aside. Raises UserError when there is none.
    """
    path = Path(path)
    places = [path, *(path / "checkpoint" / name for name in PREFERRED), *(path / name for name in PREFERRED)]
    for place in places:
        for candidate in (place, beside(place, "old")):
            if (candidate / META).is_file():
                return candidate
    if path.is_file():
        raise UserError(f"{path}: is a file; a checkpoint is a folder. Give the run's folder, such as out/<run>")
    if not path.is_dir():
        siblings = [str(p) for p in path.parent.iterdir() if p.is_dir()] if path.parent.is_dir() else []
        raise UserError(
            f"{path}: no such folder.{did_you_mean(path, siblings)} Expected a run's folder, such as out/<run>"
        )
    if (path / "model.safetensors").is_file():
        raise _torn(path / META, "is missing", path)
    raise UserError(
        f"{path}: no checkpoint here (expected {META}, or checkpoint/best or checkpoint/last with one). "
        f"Give a run's folder that has one, or train: python train.py"
    )


def read_meta(folder: Path) -> dict[str, Any]:
    """The contents of a checkpoint folder's ``meta.json``; raises UserError when it is torn or of a later format."""
    meta = read_json(folder, META)
    if type(meta.get("format")) is not int or not isinstance(meta.get("files"), dict):
        raise _torn(folder / META, "does not describe a checkpoint (no format, no files)", folder)
    if meta["format"] > FORMAT:
        raise UserError(
            f"{folder / META}: format {meta['format']} is newer than this minigpt reads ({FORMAT}). Update minigpt"
        )
    return meta


def content_hash(folder: Path) -> str:
    """One hash of the model, the weights and the tokenizer that a checkpoint folder's ``meta.json`` lists."""
    files = read_meta(folder)["files"]
    return sha256_of_text(json.dumps([str(files.get(name)) for name in CONTENT]))


def verified(folder: Path, names: Iterable[str]) -> list[Path]:
    """The paths of files in a checkpoint folder, each of the size and hash that ``meta.json`` lists.

    Raises UserError naming the first one that is missing or damaged, and the way out.
    """
    names, meta = tuple(names), read_meta(folder)
    for name in names:
        what = _damage(folder / name, meta["files"].get(name))
        if what and read_meta(folder) != meta:  # its writer replaced it while we were reading
            return verified(folder, names)
        if what:
            raise _torn(folder / name, what, folder)
    return [folder / name for name in names]


def cut_off(folder: Path, meta: Mapping[str, Any]) -> str:
    """What of a checkpoint is missing, or not as long as its ``meta`` says; ``""`` for nothing. Contents are not read:
    :func:`verified` does that."""
    for name, listed in meta["files"].items():
        if isinstance(listed, dict) and Path(name).name == name:
            if not (folder / name).is_file():
                return f"{name} is missing"
            if (size := (folder / name).stat().st_size) != listed.get("bytes"):
                return f"{name} is torn: {size} bytes where {listed.get('bytes')} were written"
    return ""


def _damage(file: Path, listed: Any) -> str:
    """What is wrong with a file, given its entry in ``meta.json``; nothing is ``""``."""
    if not isinstance(listed, dict):
        return f"is not listed in {META}"
    if not file.is_file():
        return "is missing"
    size, written = file.stat().st_size, listed.get("bytes")
    if size != written:
        return f"is torn: {size} bytes where {written} were written"
    if sha256_of(file) != listed.get("sha256"):
        return "is damaged: its content is not what was written (hash mismatch)"
    return ""


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """A JSON object of a checkpoint folder; raises UserError when it is missing, torn, or anything else."""
    file = folder / name
    if not file.is_file():
        raise _torn(file, "is missing", folder)
    content = files.read_json(file, way_out=f" {_way_out(folder)}")
    if not isinstance(content, dict):
        raise _torn(file, f"holds a {type(content).__name__}, expected a JSON object", folder)
    return content


def refused(folder: Path, error: Exception) -> UserError:
    """The error for weights the reader of safetensors does not accept."""
    return _torn(folder / "model.safetensors", f"cannot be read ({error})", folder)


def _torn(file: Path, what: str, folder: Path) -> UserError:
    return UserError(f"{file}: {what}. {_way_out(folder)}")


def _way_out(folder: Path) -> str:
    others = [folder.with_name(name) for name in PREFERRED if name != folder.name]
    other = next((p for p in others if (p / META).is_file()), None)
    return f"Take {other or 'another checkpoint'}, or train again"
