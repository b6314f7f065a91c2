"""What tells another project's model apart from what it was: one hash of the files it is made of. Imports no torch."""

from __future__ import annotations

import json
from pathlib import Path

from minigpt.files import sha256_of, sha256_of_text

_NAMES = ("config.json", "tokenizer.json", "meta.pkl", "pytorch_model.bin")


def files_of(place: Path) -> list[Path]:
    """The files of a model: the file itself, or those of a Hugging Face folder; none where there is none."""
    if place.is_file():
        return [place]
    return sorted({*place.glob("*.safetensors"), *(place / name for name in _NAMES if (place / name).is_file())})


def fingerprint(place: Path) -> str:
    """One hash of the names and contents of these files."""
    return sha256_of_text(json.dumps([[file.name, sha256_of(file)] for file in files_of(place)]))
