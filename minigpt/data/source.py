"""Where text comes from: a file, a folder, a glob or a dataset of Hugging Face's, as documents in a stable order."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from minigpt.data.document import Document
from minigpt.data.tables import HUB, hub_documents, parquet_documents
from minigpt.data.text_files import LINES, kind, text_documents
from minigpt.errors import UserError, did_you_mean

TEXT_KEY = "text"
PARQUET = (".parquet", ".pq")
UNREAD = (".zip", ".tar", ".tgz", ".7z", ".rar", ".bz2", ".xz", ".lz4", ".br")


@dataclass(frozen=True)
class Source:
    """documents: begins anew, in the same order, at every call. name: what was asked for.

    This is where cleaning goes: a step is a function from documents to documents.
    """

    name: str
    documents: Callable[[], Iterator[Document]]


def open_source(source: str, text_key: str | None = None) -> Source:
    """The documents of what ``source`` names, files sorted by path.

    source: a file, a folder (all files below it, hidden ones excepted), a glob (``**`` reaches into folders), or
    ``hf:<name or folder>[:<subset>][@<split>]``. A document is a text file, a line of a .jsonl or a row of a .parquet
    one; .gz and .zst are unpacked. text_key: the field or column of the text, None: "text".
    Raises UserError when nothing matches, or a file is of a kind that is no text.
    """
    if source.startswith(HUB):
        return Source(source, lambda: hub_documents(source, text_key or TEXT_KEY))
    files = find_files(source)
    for file in files:
        if file.suffix.lower() in UNREAD or (kind(file) in PARQUET and file.suffix.lower() not in PARQUET):
            raise UserError(f"source: {file}: is packed in a way that is not read here; unpack it, or use .gz or .zst")
        if file.suffix.lower() == ".bin":
            raise UserError(
                f"source: {file}: holds tokens, not text. Tokens are read alone (source=<file>.bin, or a folder of "
                "train.bin and val.bin), with the tokenizer they were made with"
            )
    if text_key and not any(kind(file) in (*LINES, *PARQUET) for file in files):
        raise UserError(f"text_key: {source} has no fields or columns; it is for .jsonl, .parquet and hf:")

    def documents() -> Iterator[Document]:
        for file in files:
            if kind(file) in PARQUET:
                yield from parquet_documents(file, text_key or TEXT_KEY)
            else:
                yield from text_documents(file, text_key or TEXT_KEY)

    return Source(source, documents)


def find_files(source: str) -> list[Path]:
    """The files of a path, a folder or a glob, sorted. Raises UserError when there is none."""
    path = Path(source).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        found = sorted(p for p in path.rglob("*") if p.is_file() and not _hidden(p.relative_to(path)))
        if not found:
            raise UserError(f"source: the folder {source} holds no files")
        return found
    if glob.has_magic(source):
        found = sorted(p for p in map(Path, glob.glob(str(path), recursive=True)) if p.is_file())
        if not found:
            raise UserError(f"source: no file matches {source}")
        return found
    if path.exists():
        raise UserError(f"source: {source} is neither a file nor a folder")
    neighbours = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    raise UserError(
        f"source: {source} does not exist, expected a file, a folder or a glob.{did_you_mean(path.name, neighbours)}"
    )


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
