"""nanoGPT's ``meta.pkl``, read without trusting it: plain containers only, nothing in the file can run."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any, NoReturn

from minigpt.data.tokenizers import CharTokenizer
from minigpt.errors import UserError

LARGEST = 64 << 20  # bytes; a vocabulary is far smaller


class _PlainUnpickler(pickle.Unpickler):
    """Builds dicts, lists, tuples, sets, texts and numbers. Every class or function a pickle names ends here."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"it names {module}.{name}, which could run code")

    def persistent_load(self, pid: Any) -> NoReturn:
        raise pickle.UnpicklingError("it refers to objects outside the file")


def read_plain_pickle(path: Path) -> Any:
    """The plain value a pickle file holds. Raises UserError for anything else, and for a damaged file."""
    if path.stat().st_size > LARGEST:
        raise UserError(f"{path}: {path.stat().st_size} bytes is too large for the metadata of a dataset")
    try:
        return _PlainUnpickler(io.BytesIO(path.read_bytes())).load()
    except Exception as error:
        raise UserError(
            f"{path}: not a pickle of plain containers: {error}.\n  It was not loaded; nothing in it was run."
        ) from None


def read_nanogpt_meta(path: Path) -> CharTokenizer:
    """The character vocabulary of a ``meta.pkl`` by nanoGPT's prepare.py: ``vocab_size``, ``itos`` and ``stoi``."""
    meta = read_plain_pickle(path)
    itos = meta.get("itos") if isinstance(meta, dict) else None
    if not isinstance(itos, dict) or set(itos) != set(range(len(itos))):
        raise UserError(f"{path}: expected nanoGPT's dict with 'itos', numbering characters from 0")
    characters = [itos[token] for token in range(len(itos))]
    if not all(isinstance(c, str) and len(c) == 1 for c in characters):
        raise UserError(f"{path}: itos: expected one character per token")
    stoi = {character: token for token, character in itos.items()}
    if meta.get("vocab_size", len(itos)) != len(itos) or meta.get("stoi", stoi) != stoi:
        raise UserError(f"{path}: vocab_size, stoi and itos contradict each other")
    return CharTokenizer("".join(characters))
