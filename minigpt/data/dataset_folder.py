"""A prepared dataset on disk: its files, its ``meta.json``, and every check before a token of it is trusted."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np

from minigpt.data import tokenizers
from minigpt.data.pickles import read_nanogpt_meta
from minigpt.data.recipe import recipe_names
from minigpt.data.token_file import TokenFile
from minigpt.data.tokenizers import Tokenizer
from minigpt.errors import OutsideError, UserError, did_you_mean
from minigpt.files import plainly, read_json, sha256_of, sha256_of_text
from minigpt.schema import Count, PositiveInt, Range, options, typed

Size = Annotated[int, Range(ge=0)]  # of what a disk holds

SPLITS = ("train", "val")
CLEANING = ("cleaning.json", "cleaning.md")
INDEX = {"train": "train.idx", "val": "val.idx"}
FILES = (
    "train.bin",
    "val.bin",
    "train.idx",
    "val.idx",
    *CLEANING,
    "tokenizer.json",
    "meta.json",
)  # in the order they are written: meta.json vouches for the rest
SMALL = 256 << 20  # bytes; files up to here are read whole at every opening (0.3 s at most) and compared with meta.json
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@options
class Split:
    """One .bin file. tokens: how many. bytes: of UTF-8 text they stand for. sha256: of the file. documents: how many
    begin in it, and stand in its .idx file; None for a dataset prepared without one."""

    tokens: Count
    bytes: Size
    sha256: str
    documents: Size | None = None


@options
class Meta:
    """``meta.json``: what was made, of what, and how.

    source: where the text came from, and its sha256. split: the rule, in words. made: the choices that decide the
    tokens. cleaning: the steps that the text went through, and their hash; what they did stands in cleaning.json.
    python: the version that ran it.
    """

    format: Literal[1] = 1
    name: str
    vocab_size: PositiveInt
    dtype: Literal["uint16", "uint32"]
    tokenizer: str
    tokenizer_hash: str
    train: Split
    val: Split
    split: str
    source: str
    source_sha256: str
    made: str
    cleaning: Mapping[str, Any] | None = None
    python: str

    @property
    def hash(self) -> str:
        """What a run trained on: both token files and the tokenizer they were made with."""
        parts = (self.train.sha256, self.val.sha256, self.dtype, self.tokenizer_hash)
        return sha256_of_text(" ".join(parts))


@dataclass(frozen=True)
class Prepared:
    """The tokens of a prepared dataset, checked."""

    path: Path
    meta: Meta
    tokenizer: Tokenizer
    train: TokenFile
    val: TokenFile

    def document_starts(self, split: Literal["train", "val"]) -> np.ndarray | None:
        """Places in a split's tokens at which documents begin, (documents,) int64, rising; None for a dataset prepared
        without them. The first is 0; where a split begins inside a document, its rest counts as one. A document goes up
        to the next, its end-of-text token included. Raises UserError when the file does not fit the tokens."""
        told: Split = getattr(self.meta, split)
        if told.documents is None:
            return None
        file = self.path / INDEX[split]
        with plainly(file, "read", _again(self.meta.name, self.path)):
            whole = file.stat().st_size == 8 * told.documents
            starts = np.fromfile(file, dtype="<u8").astype(np.int64) if whole else np.array([], dtype=np.int64)
        rising = starts.size and starts[0] == 0 and (np.diff(starts) > 0).all()
        if not rising or starts[-1] >= told.tokens:
            raise UserError(
                f"{file}: expected {told.documents} rising places within {told.tokens} tokens, as meta.json says."
                f"{_again(self.meta.name, self.path)}"
            )
        return starts


def dtype_for(vocab_size: int) -> Literal["uint16", "uint32"]:
    """The smallest type of the two that holds every token."""
    return "uint16" if vocab_size <= 65535 else "uint32"


def prepared_names(folder: str | Path) -> list[str]:
    """Datasets in ``folder`` that are prepared, by us or by nanoGPT."""
    folder = Path(folder)
    found = {p.parent.name for meta in ("meta.json", "meta.pkl") for p in folder.glob(f"*/{meta}")}
    return sorted(name for name in found if NAME.fullmatch(name))


def dataset_names(folder: str | Path) -> list[str]:
    """Every dataset one can ask for: prepared in ``folder``, or with a recipe of this project."""
    return sorted({*prepared_names(folder), *recipe_names()})


def check_name(name: str) -> str:
    """``name``, if it can be a folder's. Raises UserError for paths and other surprises."""
    if not NAME.fullmatch(name):
        raise UserError(
            f"dataset name '{name}': expected letters, digits, '.', '_' and '-', starting with a letter or digit"
        )
    return name


def open_prepared(name: str, folder: str | Path) -> Prepared:
    """Open ``folder/name``. Raises OutsideError when it is not there, not whole, or not what its meta.json says: put
    right, it lets the same command go on."""
    path = Path(folder) / check_name(name)
    try:
        return _opened(name, path)
    except UserError as error:
        raise OutsideError(str(error)) from None


def _opened(name: str, path: Path) -> Prepared:
    if not (path / "meta.json").is_file() and not (path / "meta.pkl").is_file():
        raise _not_prepared(name, path.parent)
    for split in SPLITS:
        if not (path / f"{split}.bin").is_file():
            raise UserError(f"{path}: {split}.bin is missing.{_again(name, path)}")
    return _open_ours(name, path) if (path / "meta.json").is_file() else _open_nanogpt(name, path)


def read_meta(path: Path, way_out: str = "") -> Meta:
    """The ``meta.json`` at ``path``; its keys and types are checked."""
    return typed(Meta, read_json(path, way_out=way_out), str(path))


def blocks(path: Path, size: int = 1 << 24) -> Iterator[bytes]:
    """The content of a file, ``size`` bytes at a time (16 MiB: never a whole dataset in memory)."""
    with path.open("rb") as file:
        while block := file.read(size):
            yield block


def _open_ours(name: str, path: Path) -> Prepared:
    again = _again(name, path)
    meta = read_meta(path / "meta.json", again)
    tokenizer = tokenizers.from_json(read_json(path / "tokenizer.json", way_out=again), str(path / "tokenizer.json"))
    if tokenizer.hash != meta.tokenizer_hash or tokenizer.vocab_size != meta.vocab_size:
        raise UserError(
            f"{path / 'tokenizer.json'}: not the tokenizer this dataset was prepared with (meta.json).{again}"
        )
    if meta.dtype != dtype_for(meta.vocab_size):
        raise UserError(
            f"{path / 'meta.json'}: dtype: {meta.dtype} given, but a vocabulary of {meta.vocab_size} is stored as "
            f"{dtype_for(meta.vocab_size)}.{again}"
        )
    for split, told in (("train", meta.train), ("val", meta.val)):
        file = path / f"{split}.bin"
        _check_size(file, told.tokens, np.dtype(meta.dtype).itemsize, again)
        if file.stat().st_size > SMALL:
            continue  # prepare checked every token when it wrote them
        _check_range(file, meta.dtype, meta.vocab_size, again)
        if sha256_of(file) != told.sha256:
            raise UserError(f"{file}: its content has changed since it was prepared (sha256 in meta.json).{again}")
    return Prepared(path, meta, tokenizer, *_token_files(path, meta))


def _open_nanogpt(name: str, path: Path) -> Prepared:
    """A folder nanoGPT's prepare.py wrote: uint16 tokens and a meta.pkl; what our meta.json records is counted here."""
    tokenizer = read_nanogpt_meta(path / "meta.pkl")
    lengths = tokenizer.token_bytes()
    counted = {}
    for split in SPLITS:
        file = path / f"{split}.bin"
        size = file.stat().st_size
        if not size or size % 2:
            raise UserError(f"{file}: {size} bytes are not a whole number of uint16 tokens; it is empty or truncated.")
        tokens = np.memmap(file, dtype=np.uint16, mode="r")
        if len(tokens) > 2 and not tokens[1 : 2 * 4096 : 2].any() and tokens[: 2 * 4096 : 2].any():
            raise UserError(f"{file}: every second token is 0, so it looks like uint32; nanoGPT's files are uint16.")
        _check_range(file, "uint16", tokenizer.vocab_size, "")
        size_of = sum(int(lengths[np.frombuffer(block, dtype=np.uint16)].sum()) for block in blocks(file))
        counted[split] = Split(tokens=len(tokens), bytes=size_of, sha256=sha256_of(file))
    meta = Meta(
        name=name,
        vocab_size=tokenizer.vocab_size,
        dtype="uint16",
        tokenizer=tokenizer.kind,
        tokenizer_hash=tokenizer.hash,
        train=counted["train"],
        val=counted["val"],
        split="as nanoGPT's prepare.py made it",
        source="unknown",
        source_sha256="",
        made="by nanoGPT's prepare.py; read through meta.pkl",
        python="",
    )
    return Prepared(path, meta, tokenizer, *_token_files(path, meta))


def _token_files(path: Path, meta: Meta) -> tuple[TokenFile, TokenFile]:
    """Both splits; what lies in memory is what was checked, even if the file has changed since."""
    train, val = (TokenFile(path / f"{split}.bin", meta.dtype, meta.vocab_size) for split in SPLITS)
    for tokens, told in ((train, meta.train), (val, meta.val)):
        if len(tokens.tokens) != told.tokens:
            raise UserError(f"{tokens.file}: was changed while it was opened. Try again when nobody writes to it")
    return train, val


def _check_size(file: Path, tokens: int, itemsize: int, again: str) -> None:
    size, expected = file.stat().st_size, tokens * itemsize
    if size == expected:
        return
    others = [width for width in (1, 2, 4, 8) if width != itemsize and size == tokens * width]
    if others:
        raise UserError(f"{file}: wrong dtype: {others[0]} bytes per token, but meta.json says {itemsize}.{again}")
    what = "truncated" if size < expected else "too long"
    raise UserError(f"{file}: {what}: {size} bytes, but meta.json says {tokens} tokens of {itemsize} bytes.{again}")


def _check_range(file: Path, dtype: str, vocab_size: int, again: str) -> None:
    largest = max(int(np.frombuffer(block, dtype=dtype).max()) for block in blocks(file))
    if largest >= vocab_size:
        raise UserError(f"{file}: token {largest} is outside the vocabulary of {vocab_size}.{again}")


def _again(name: str, path: Path) -> str:
    how = f"dataset={name}" if name in recipe_names() else f"source=<text> name={name}"
    folder = "" if str(path.parent) == "data" else f" folder={path.parent}"
    return f"\n  Prepare it again: python data/prepare.py {how}{folder} overwrite=true"


def _not_prepared(name: str, folder: str | Path) -> UserError:
    where = "" if str(folder) == "data" else f" folder={folder}"
    if name in recipe_names():
        return UserError(
            f"dataset '{name}' is not prepared in {folder}.\n  Prepare it: python data/prepare.py dataset={name}{where}"
        )
    if (Path(folder) / name / "train.bin").is_file():
        return UserError(
            f"{Path(folder) / name}: train.bin has neither a meta.json nor nanoGPT's meta.pkl beside it, so its "
            "vocabulary is unknown.\n"
            f"  Prepare it from its text: python data/prepare.py source=<text> name={name}{where} overwrite=true"
        )
    prepared = ", ".join(prepared_names(folder)) or "none"
    return UserError(
        f"dataset '{name}': not prepared in {folder}, and no recipe for it."
        f"{did_you_mean(name, dataset_names(folder))}\n"
        f"  prepared: {prepared}; recipes: {', '.join(recipe_names())}\n"
        f"  From your own text: python data/prepare.py source=<file, folder or glob> name={name}{where}"
    )
