"""A checkpoint as a folder of files: replaced whole or not at all, found by run, and read only when nothing is torn.

Writing goes to ``.<name>.new``; then the old folder steps aside to ``.<name>.old`` and the new one takes its name.
Whatever moment a crash picks, the folder of that name or the one set aside is complete, and readers know both places.
Only JSON is read here, nothing found in a checkpoint is ever executed, and torch is not imported.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from minigpt.errors import UserError, did_you_mean

META = "meta.json"
FORMAT = 1
PREFERRED = ("best", "last")
"""Which checkpoint of a run is meant when none is named."""


def replace_folder(folder: Path, writers: Mapping[str, Callable[[Path], None]], meta: Mapping[str, Any]) -> None:
    """Replace ``folder`` by one with the files of ``writers`` and a ``meta.json`` that lists their sizes and hashes.

    writers: file name -> what writes it, given its path. When one raises, the old folder stays and nothing is left.
    Raises UserError when ``folder`` is there and is no checkpoint.
    """
    _settle(folder)
    if folder.exists() and not (folder / META).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: is there and is no checkpoint ({META} is missing); it is not overwritten")
    folder.parent.mkdir(parents=True, exist_ok=True)
    new, old = _beside(folder, "new"), _beside(folder, "old")
    new.mkdir()
    try:
        for name, write in writers.items():
            write(new / name)
        files = {name: {"bytes": (new / name).stat().st_size, "sha256": _sha256(new / name)} for name in writers}
        content = {"format": FORMAT, **meta, "files": files}
        (new / META).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        for name in (*writers, META):
            _sync(new / name)
        _sync(new)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    if folder.exists():
        os.rename(folder, old)
    os.rename(new, folder)
    _sync(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def find_checkpoint(path: Path | str) -> Path:
    """The checkpoint folder that ``path`` means: itself, or a run's ``checkpoint/best``, else ``checkpoint/last``.

    Where a crash interrupted a replacement, that is the complete folder set aside. Raises UserError when there is none.
    """
    path = Path(path)
    places = [path, *(path / "checkpoint" / name for name in PREFERRED), *(path / name for name in PREFERRED)]
    for place in places:
        for candidate in (place, _beside(place, "old")):
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


def _damage(file: Path, listed: Any) -> str:
    """What is wrong with a file, given its entry in ``meta.json``; nothing is ``""``."""
    if not isinstance(listed, dict):
        return f"is not listed in {META}"
    if not file.is_file():
        return "is missing"
    size, written = file.stat().st_size, listed.get("bytes")
    if size != written:
        return f"is torn: {size} bytes where {written} were written"
    if _sha256(file) != listed.get("sha256"):
        return "is damaged: its content is not what was written (hash mismatch)"
    return ""


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """A JSON object of a checkpoint folder; raises UserError when it is missing, torn, or anything else."""
    file = folder / name
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise _torn(file, "is missing", folder) from None
    except (ValueError, RecursionError) as error:
        raise _torn(file, f"is no JSON ({error})", folder) from None
    if not isinstance(content, dict):
        raise _torn(file, f"holds a {type(content).__name__}, expected a JSON object", folder)
    return content


def refused(folder: Path, error: Exception) -> UserError:
    """The error for weights the reader of safetensors does not accept."""
    return _torn(folder / "model.safetensors", f"cannot be read ({error})", folder)


def _torn(file: Path, what: str, folder: Path) -> UserError:
    others = [folder.with_name(name) for name in PREFERRED if name != folder.name]
    other = next((p for p in others if (p / META).is_file()), None)
    return UserError(f"{file}: {what}. Take {other or 'another checkpoint'}, or train again")


def _settle(folder: Path) -> None:
    """Bring a folder that a crash left half replaced back to one complete folder, and nothing beside it."""
    new, old = _beside(folder, "new"), _beside(folder, "old")
    if old.exists() and not folder.exists():
        os.rename(old, folder)
    for stale in (new, old):
        if stale.exists():
            shutil.rmtree(stale)


def _beside(folder: Path, kind: str) -> Path:
    return folder.parent / f".{folder.name}.{kind}"


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sync(path: Path) -> None:
    """Have the system write a file, or a folder's list of names, to the disk now."""
    if path.is_dir() and os.name == "nt":
        return  # folders cannot be opened there
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
