"""Text as it comes: one file, a folder or a glob, read as UTF-8 documents in a stable order."""

from __future__ import annotations

import glob
import json
from pathlib import Path

from minigpt.errors import UserError, did_you_mean


def read_documents(source: str) -> list[str]:
    """The text of every file ``source`` names, sorted by path; one document per file, or per line of a .jsonl file.

    source: a file, a folder (all files below it, hidden ones excepted) or a glob (``**`` reaches into folders).
    Newlines are read as ``\\n``, a byte-order mark is dropped, empty files among others are left out. Raises UserError
    when nothing matches, nothing but empty files is found, or a file is not UTF-8.
    """
    files = _files(source)
    documents = [text for file in files for text in _documents(file) if text]
    if not documents:
        raise UserError(
            f"source: {source} is empty, expected text"
            if len(files) == 1
            else f"source: all files of {source} are empty"
        )
    return documents


def _documents(path: Path) -> list[str]:
    text = read_text(path)
    if path.suffix.lower() not in (".jsonl", ".ndjson"):
        return [text]
    lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    return [_text_of_line(f"{path}:{number}", line) for number, line in lines]


def _text_of_line(where: str, line: str) -> str:
    """The field ``text`` of a line of JSON: all else of it is about the text."""
    try:
        content = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"source: {where}: not JSON ({error}); expected an object with a field 'text'") from None
    text = content.get("text") if isinstance(content, dict) else None
    if not isinstance(text, str):
        fields = ", ".join(sorted(map(str, content))[:8]) if isinstance(content, dict) else type(content).__name__
        raise UserError(
            f"source: {where}: has no field 'text' that is text (it has: {fields}).\n"
            "  Rename the field that holds the text, or write the texts into files of their own."
        )
    return text


def read_text(path: Path) -> str:
    """One UTF-8 file. Raises UserError, naming the first byte that is not UTF-8."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"source: {path} could not be read ({error.strerror})") from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"source: {path} is not UTF-8 text: byte {content[error.start]:#04x} at offset {error.start}.\n"
            "  Convert it first (iconv -t utf-8), or leave it out with a glob such as source='folder/**/*.txt'."
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _files(source: str) -> list[Path]:
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
    neighbours = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    raise UserError(
        f"source: {source} does not exist, expected a file, a folder or a glob.{did_you_mean(path.name, neighbours)}"
    )


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
