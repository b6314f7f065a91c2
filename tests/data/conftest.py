"""Prepared datasets of real text, and where the one large test text may be found."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from minigpt.data.preparation import PrepareConfig, prepare

VERSE = "The quick brown fox jumps over the lazy dog; naïve façades cost 5 €.\n" * 40


@pytest.fixture
def verse() -> str:
    """The text ``make`` prepares: 2760 characters, some of two or three bytes."""
    return VERSE


@pytest.fixture
def make(tmp_path):
    """make(name="verse", text=VERSE, **keys of PrepareConfig) -> the dataset's folder in tmp_path/data."""

    def make(name: str = "verse", text: str = VERSE, **keys) -> Path:
        source = tmp_path / f"{name}.txt"
        source.write_text(text, encoding="utf-8")
        keys = {"source": str(source), "name": name, "folder": str(tmp_path / "data")} | keys
        return prepare(PrepareConfig(**keys), say=lambda line: None)

    return make


@pytest.fixture
def tinyshakespeare() -> Path:
    """The file, or a skip that says where it was looked for."""
    default = Path(__file__).resolve().parents[3] / "shared" / "data" / "tinyshakespeare" / "input.txt"
    path = Path(os.environ.get("MINIGPT_TINYSHAKESPEARE", default))
    if not path.is_file():
        pytest.skip(
            "tinyshakespeare's input.txt is neither in MINIGPT_TINYSHAKESPEARE nor in ../shared/data/tinyshakespeare"
        )
    return path


@pytest.fixture(scope="session")
def ranks_file(tmp_path_factory) -> Path:
    """A .tiktoken file of byte-pair ranks, trained with tiktoken's own trainer: 256 bytes and 32 merges."""
    import base64

    from tiktoken._educational import bpe_train

    from minigpt.data.tiktoken_bpe import GPT2_PATTERN

    ranks = bpe_train(VERSE, 288, GPT2_PATTERN, visualise=None)
    path = tmp_path_factory.mktemp("ranks") / "small.tiktoken"
    path.write_bytes(b"".join(base64.b64encode(token) + b" %d\n" % rank for token, rank in ranks.items()))
    return path
