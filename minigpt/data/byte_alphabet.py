"""GPT-2's way to write bytes as printable characters, which byte-level vocabularies are written in."""

from __future__ import annotations

from functools import cache


@cache
def characters() -> tuple[str, ...]:
    """The character for each of the 256 bytes: itself where it is printable Latin-1, else one from U+0100 on."""
    shown = {*range(33, 127), *range(161, 173), *range(174, 256)}
    table, spare = [], 256
    for byte in range(256):
        table.append(chr(byte if byte in shown else spare))
        spare += byte not in shown
    return tuple(table)


@cache
def _bytes() -> dict[str, int]:
    return {character: byte for byte, character in enumerate(characters())}


def to_characters(content: bytes) -> str:
    """Bytes -> their characters."""
    table = characters()
    return "".join(table[byte] for byte in content)


def to_bytes(text: str) -> bytes | None:
    """Characters -> the bytes they stand for; None when one is not of this alphabet."""
    table = _bytes()
    found = [table.get(character) for character in text]
    return None if None in found else bytes(found)  # type: ignore[arg-type]
