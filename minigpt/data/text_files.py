"""Text files as documents, a few megabytes at a time: plain text, lines of JSON, and either of them compressed.

Memory follows the longest line, not the file: what a compressed file unpacks to is never held whole.
"""

from __future__ import annotations

import codecs
import gzip
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from minigpt.data.document import Document
from minigpt.errors import UserError, shown

PART = 1 << 22
"""Characters of the longest text that comes whole; a longer one comes in parts."""
BLOCK = 1 << 22  # bytes read at once
LONGEST_LINE = 64 << 20  # characters of a line of JSON
WINDOW = 1 << 27  # bytes a zstd file may ask to be kept in mind; its command line's own limit
DENSEST = 500  # times the size of its file that a text may unpack to; logs full of repetition reach some 100
FEED = 1 << 9  # bytes of a zstd file unpacked at once
PACKED = (".gz", ".zst")
LINES = (".jsonl", ".ndjson")
_CUT = re.compile(r".*\n(?=\w)", re.DOTALL)


def text_documents(path: Path, text_key: str) -> Iterator[Document]:
    """The documents of one file: the whole of a text file, or the field ``text_key`` of every line of a .jsonl one.

    Newlines are read as ``\\n``, a byte-order mark is dropped. Raises UserError for what is no UTF-8, for a line that
    is not JSON or has no such text (blank lines are none), and for a damaged compressed file.
    """
    blocks = _text(path)
    if kind(path) in LINES:
        for number, line in _lines(path, blocks):
            where = f"{path}:{number}"
            yield Document(_text_of_line(where, line, text_key), where)
    else:
        yield from _parts(str(path), blocks)


def kind(path: Path) -> str:
    """The ending that says what a file holds, in small letters, without that of its compression: ".jsonl"."""
    endings = [ending.lower() for ending in path.suffixes]
    while endings and endings[-1] in PACKED:
        endings.pop()
    return endings[-1] if endings else ""


def _parts(origin: str, blocks: Iterator[str]) -> Iterator[Document]:
    """A text as one document or as several parts, cut where words of every published vocabulary begin anew."""
    held = ""
    for block in blocks:
        held, start = held + block, 0
        while len(held) - start > PART:
            part = held[start : start + PART]
            part = part[: cut_of(part)]
            yield Document(part, origin, ends=False)
            start += len(part)
        held = held[start:]
    yield Document(held, origin)


def cut_of(text: str) -> int:
    """Where to cut a text that goes on: after the last line that a word follows, else at a space, else at its end."""
    tail = text[-(1 << 16) :]
    found = _CUT.match(tail)
    if found:
        return len(text) - len(tail) + found.end()
    space = text.rfind(" ")
    return space if space > len(text) // 2 else len(text)


def _lines(path: Path, blocks: Iterator[str]) -> Iterator[tuple[int, str]]:
    number, held = 1, ""
    for block in blocks:
        *lines, rest = (held + block).split("\n")
        for line in lines:
            if line.strip():
                yield number, line
            number += 1
        held = rest
        if len(held) > LONGEST_LINE:
            raise UserError(f"source: {path}:{number}: a line of more than {LONGEST_LINE >> 20} million characters")
    if held.strip():
        yield number, held


def _text_of_line(where: str, line: str, key: str) -> str:
    """One field of a line of JSON: all else of it is about the text."""
    try:
        content = json.loads(line)
    except (ValueError, RecursionError) as error:
        what = "nested too deep" if isinstance(error, RecursionError) else error
        raise UserError(f"source: {where}: not JSON ({what}); expected an object with a field '{key}'") from None
    text = content.get(key) if isinstance(content, dict) else None
    if not isinstance(text, str):
        fields = ", ".join(sorted(map(str, content))[:8]) if isinstance(content, dict) else type(content).__name__
        raise UserError(
            f"source: {where}: has no field '{key}' that is text (it has: {shown(fields)}).\n"
            "  Name the field that holds the text: text_key=<field>"
        )
    return text


def _text(path: Path) -> Iterator[str]:
    """The text of a file, some million characters at a time."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    taken, held, first = 0, "", True
    for block in _bytes(path):
        waiting = len(decoder.getstate()[0])
        text = held + _decoded(decoder, block, path, taken - waiting)
        taken += len(block)
        if first and text:
            text, first = text.removeprefix("\ufeff"), False
        held = "\r" if text.endswith("\r") else ""  # whether a newline follows is in the next block
        text = text[: len(text) - len(held)]
        yield text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text
    _decoded(decoder, b"", path, taken - len(decoder.getstate()[0]), final=True)
    if held:
        yield "\n"


def _decoded(decoder: Any, block: bytes, path: Path, start: int, final: bool = False) -> str:
    try:
        return decoder.decode(block, final)
    except UnicodeDecodeError as error:
        raise UserError(
            f"source: {path} is not UTF-8 text: byte {error.object[error.start]:#04x} at offset {start + error.start}."
            "\n  Convert it first (iconv -t utf-8), or leave it out with a glob such as source='folder/**/*.txt'."
        ) from None


def _bytes(path: Path) -> Iterator[bytes]:
    """The content of a file, or what it unpacks to, some megabytes at a time."""
    ending = path.suffix.lower()
    try:
        with path.open("rb") as file:
            if ending == ".zst":
                yield from _bounded(path, _zstd(path, file))
            elif ending == ".gz":
                yield from _bounded(path, _blocks(gzip.GzipFile(fileobj=file)))
            else:
                yield from _blocks(file)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise _damaged(path, error) from None
    except OSError as error:
        raise UserError(f"source: {path} could not be read ({error.strerror or error})") from None


def _blocks(stream: IO[bytes] | gzip.GzipFile) -> Iterator[bytes]:
    while block := stream.read(BLOCK):
        yield block


def _bounded(path: Path, unpacked: Iterator[bytes]) -> Iterator[bytes]:
    """Blocks that a file unpacks to. Raises UserError for more than any text could become from it."""
    most, taken = max(64 << 20, DENSEST * path.stat().st_size), 0
    for block in unpacked:
        taken += len(block)
        if taken > most:
            raise UserError(
                f"source: {path} unpacks to more than {DENSEST} times its size, as no text does. Leave it out, or "
                f"unpack it first"
            )
        yield block


def _zstd(path: Path, file: IO[bytes]) -> Iterator[bytes]:
    """Frame by frame, fed in bits: 512 bytes unpack to some 16 megabytes at most. A file that ends within a frame is
    noticed, which the library's own file reader does not do."""
    try:
        import zstandard
    except ImportError:
        raise UserError(f"source: {path} needs zstandard: pip install 'minigpt[data]'") from None
    unpacker = zstandard.ZstdDecompressor(max_window_size=WINDOW)
    frame, held = None, bytearray()
    try:
        while packed := file.read(FEED):
            while packed:
                frame = frame or unpacker.decompressobj()
                held += frame.decompress(packed)
                packed, frame = (frame.unused_data, None) if frame.eof else (b"", frame)
            if len(held) >= BLOCK:
                yield bytes(held)
                held.clear()
    except zstandard.ZstdError as error:
        raise _damaged(path, error) from None
    if frame is not None:
        raise _damaged(path, "it ends too early")
    if held:
        yield bytes(held)


def _damaged(path: Path, reason: object) -> UserError:
    return UserError(f"source: {path}: the compressed file is damaged ({reason})")
