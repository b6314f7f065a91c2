"""Prepare a dataset: text -> tokenizer.json, train.bin, val.bin and meta.json, whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import json
import platform
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np

from minigpt import screen
from minigpt.checkpoint_folder import find_checkpoint
from minigpt.data.bpe import SMALLEST, VOCAB_SIZE, train_bpe
from minigpt.data.dataset_folder import FILES, Meta, Split, check_name, dtype_for, open_prepared, read_meta
from minigpt.data.hf_files import read_tokenizer
from minigpt.data.recipe import KINDS, Recipe, load_recipe, recipe_names
from minigpt.data.source import read_documents
from minigpt.data.tiktoken_bpe import is_path, load_encoding
from minigpt.data.tokenizers import ByteTokenizer, CharTokenizer, Tokenizer
from minigpt.errors import UserError, unknown
from minigpt.files import Holder, Lock, beside, plainly, replace_files
from minigpt.schema import Limit, Range, options, plain

PIECE = 1 << 22  # characters encoded at once where the tokenizer allows it: some 64 MB of memory
PREPARE = "python data/prepare.py"


@options
class PrepareConfig:
    """What to prepare. Either a recipe of this project (``dataset``), or text of one's own (``source`` and ``name``).

    dataset: a recipe, data/<dataset>/dataset.py. name: what text of one's own is called. folder: where datasets are
    written. source: a file, folder or glob; with ``dataset`` it replaces what the
    recipe would fetch. tokenizer, val_fraction: None is the recipe's, or char and 0.1; tokenizer may be a
    tokenizer.json, Hugging Face's or minigpt's, or its folder. encoding: of tokenizer=tiktoken, a name or a .tiktoken
    file. vocab_size: of tokenizer=bpe, which is trained on this text. tokenizer_of: in place of these, a prepared
    dataset's folder, a run's or a checkpoint's, whose tokenizer this text gets: so that its weights can read it.
    overwrite: replace a prepared dataset that differs.
    """

    dataset: str | None = None
    source: str | None = None
    name: str | None = None
    tokenizer: str | None = None
    encoding: str | None = None
    vocab_size: Annotated[int, Range(ge=SMALLEST), Limit(1 << 20)] | None = None
    tokenizer_of: str | None = None
    val_fraction: Annotated[float, Range(gt=0, lt=1)] | None = None
    folder: str = "data"
    overwrite: bool = False

    def __post_init__(self):
        if self.dataset and self.name:
            raise UserError("dataset and name: a recipe's dataset has its recipe's name; leave one of the two out")
        if not self.dataset and not (self.source and self.name):
            raise UserError(
                f"expected {PREPARE} dataset=<name>, or source=<file, folder or glob> name=<new>\n"
                f"  datasets with a recipe: {', '.join(recipe_names())}"
            )
        if self.tokenizer_of and (self.tokenizer or self.encoding):
            raise UserError("tokenizer_of: brings tokenizer and encoding along; leave those two out")
        if self.tokenizer and self.tokenizer not in KINDS and not _is_file(self.tokenizer):
            raise unknown("tokenizer", self.tokenizer, "neither a tokenizer.json nor a kind of tokenizer", KINDS)
        if self.vocab_size and self.tokenizer != "bpe":
            raise UserError("vocab_size: is for tokenizer=bpe, which is trained; other vocabularies have their size")
        if not self.dataset and self.name in recipe_names():
            raise UserError(
                f"name: '{self.name}' has a recipe of its own; use dataset={self.name} source=..., or another name"
            )


def _is_file(tokenizer: str) -> bool:
    return tokenizer.endswith(".json") or Path(tokenizer).expanduser().exists()


@dataclass(frozen=True)
class _Plan:
    """All that decides what is written, before anything is tokenized."""

    documents: list[str]
    source: str
    kind: str
    encoding: str
    vocab_size: int
    val_fraction: float
    characters: str | None
    given: Tokenizer | None
    source_sha256: str

    @property
    def made(self) -> str:
        parts = [f"tokenizer={self.kind}", f"val_fraction={self.val_fraction}"]
        if self.kind == "tiktoken" and not self.given:
            parts.insert(1, f"encoding={Path(self.encoding).stem}")
        if self.kind == "bpe" and not self.given:
            parts.insert(1, f"vocab_size={self.vocab_size}")
        return " ".join(parts)


def prepare(config: PrepareConfig, say: Callable[[str], None] = screen.say) -> Path:
    """Write ``folder/name`` and return its path. say: gets one line of progress at a time.

    The same text prepared the same way again changes nothing. Raises UserError, with nothing written, for text that
    cannot be used and for a folder that holds something else, unless ``overwrite``.
    """
    name = check_name(config.dataset or config.name or "")
    target = Path(config.folder) / name
    plan = _plan(config)
    with plainly(target, way_out="\n  Choose another place: folder=<folder>"), _alone_in(target):
        if not config.overwrite and _is_there(target, name, plan):
            say(f"{target}: already prepared from this text with {plan.made}; nothing to do")
            return target
        say(f"{name}: {sum(map(len, plan.documents)):,} characters in {len(plan.documents)} document(s)")
        tokenizer = _tokenizer(plan)
        say(f"  tokenizer {tokenizer.kind}, vocabulary of {tokenizer.vocab_size:,}")
        replace_files(target, FILES, lambda new: _write(new, name, plan, tokenizer), voucher="meta.json")
    meta = read_meta(target / "meta.json")
    for split, made in (("train", meta.train), ("val", meta.val)):
        say(f"  {split:5} {made.tokens:>13,} tokens {made.bytes:>13,} bytes of text")
    say(f"  written to {target} (hash {meta.hash[:12]})")
    return target


@contextlib.contextmanager
def _alone_in(target: Path) -> Iterator[None]:
    """Create ``target`` and hold it while it is prepared: of two workers that start together, one prepares, one waits.

    A folder that is still empty at the end is removed.
    """

    def busy(holder: Holder) -> None:
        screen.say(f"{target}: is being prepared by {holder}; waiting for it", file=sys.stderr)

    target.parent.mkdir(parents=True, exist_ok=True)
    with Lock(beside(target, "lock"), busy):
        target.mkdir(exist_ok=True)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                target.rmdir()


def _plan(config: PrepareConfig) -> _Plan:
    recipe = load_recipe(config.dataset) if config.dataset else Recipe(documents=list)
    documents = read_documents(config.source) if config.source else recipe.documents()
    given = _tokenizer_of(config.tokenizer_of) if config.tokenizer_of else None
    if config.tokenizer and config.tokenizer not in KINDS:
        given = read_tokenizer(Path(config.tokenizer).expanduser())
    digest = hashlib.sha256()
    for text in documents:
        content = text.encode("utf-8", "surrogatepass")
        digest.update(f"{len(content)}\n".encode() + content)
    return _Plan(
        documents=documents,
        source=config.source or f"recipe data/{config.dataset}/dataset.py",
        kind=given.kind if given else config.tokenizer or recipe.tokenizer,
        encoding=config.encoding or recipe.encoding,
        vocab_size=config.vocab_size or VOCAB_SIZE,
        val_fraction=recipe.val_fraction if config.val_fraction is None else config.val_fraction,
        characters=recipe.characters if not config.source else None,
        given=given,
        source_sha256=digest.hexdigest(),
    )


def _is_there(target: Path, name: str, plan: _Plan) -> bool:
    """Whether the target already holds exactly this; UserError when it holds something else: not ours to destroy."""
    if not any((target / file).exists() for file in (*FILES, "meta.pkl")):
        return False
    if (target / "meta.json").exists():
        meta = read_meta(target / "meta.json", "\n  Replace it: overwrite=true")
        if _is_same(meta, plan):
            open_prepared(name, target.parent)  # raises with the way out when a file of it is damaged
            return True
        text = "the same text" if meta.source_sha256 == plan.source_sha256 else "other text"
        held = f"prepared with {meta.made} from {text}"
    else:
        held = "with files that another tool or an interrupted run left"
    raise UserError(
        f"{target}: already there, {held}; nothing was changed.\n  Replace it: overwrite=true, or choose another name"
    )


def _is_same(meta: Meta, plan: _Plan) -> bool:
    if (meta.source_sha256, meta.made) != (plan.source_sha256, plan.made):
        return False
    if plan.kind == "tiktoken" and not plan.given and not is_path(plan.encoding):
        return True  # a published name means one vocabulary; to load it may need the network
    return meta.tokenizer_hash == _tokenizer(plan).hash


def _tokenizer_of(path: str) -> Tokenizer:
    """The tokenizer of a prepared dataset, a run or a checkpoint."""
    file = Path(path) / "tokenizer.json"
    file = file if file.is_file() else find_checkpoint(path) / file.name
    return read_tokenizer(file)


def _tokenizer(plan: _Plan) -> Tokenizer:
    if plan.given:
        return plan.given
    if plan.kind == "char" and plan.characters:
        return CharTokenizer(plan.characters)
    if plan.kind == "char":
        characters: set[str] = {"\n"} if len(plan.documents) > 1 else set()
        return CharTokenizer("".join(sorted(characters.union(*plan.documents))))
    if plan.kind == "byte":
        return ByteTokenizer()
    return train_bpe(plan.documents, plan.vocab_size) if plan.kind == "bpe" else load_encoding(plan.encoding)


def _write(folder: Path, name: str, plan: _Plan, tokenizer: Tokenizer) -> None:
    """All files of the dataset into an empty folder."""
    dtype = dtype_for(tokenizer.vocab_size)
    documents = plan.documents
    if tokenizer.eot_token is None and len(documents) > 1:
        documents = [text if text.endswith("\n") else text + "\n" for text in documents]
    ended = tokenizer.eot_token is not None and len(documents) > 1
    cut = int(sum(map(len, documents)) * (1 - plan.val_fraction))
    splits = {}
    for split, pieces in zip(("train", "val"), _cut(documents, cut), strict=True):
        splits[split] = _write_tokens(folder / f"{split}.bin", _tokens(tokenizer, pieces, ended), tokenizer, dtype)
    meta = Meta(
        name=name,
        vocab_size=tokenizer.vocab_size,
        dtype=dtype,
        tokenizer=tokenizer.kind,
        tokenizer_hash=tokenizer.hash,
        train=splits["train"],
        val=splits["val"],
        split=f"the first {1 - plan.val_fraction:.4g} of all characters, in document order, is train; the rest is val",
        source=plan.source,
        source_sha256=plan.source_sha256,
        made=plan.made,
        python=platform.python_version(),
    )
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer.to_json()), encoding="utf-8")
    (folder / "meta.json").write_text(json.dumps(plain(meta), indent=2) + "\n", encoding="utf-8")


def _cut(documents: list[str], cut: int) -> tuple[list[tuple[str, bool]], list[tuple[str, bool]]]:
    """Cut after ``cut`` characters. Each piece comes with whether its document ends with it."""
    before: list[tuple[str, bool]] = []
    after: list[tuple[str, bool]] = []
    for text in documents:
        head, tail = text[:cut], text[cut:]
        cut -= len(head)
        if head:
            before.append((head, not tail))
        if tail:
            after.append((tail, True))
    return before, after


def _tokens(tokenizer: Tokenizer, pieces: Iterable[tuple[str, bool]], ended: bool) -> Iterator[np.ndarray]:
    for text, ends in pieces:
        step = PIECE if tokenizer.cut_anywhere else len(text)
        for start in range(0, len(text), step):
            yield tokenizer.encode(text[start : start + step])
        if ended and ends:
            yield np.array([tokenizer.eot_token])


def _write_tokens(file: Path, tokens: Iterator[np.ndarray], tokenizer: Tokenizer, dtype: str) -> Split:
    digest, lengths, count, size = hashlib.sha256(), tokenizer.token_bytes(), 0, 0
    with file.open("wb") as out:
        for ids in tokens:
            content = ids.astype(dtype).tobytes()
            out.write(content)
            digest.update(content)
            count, size = count + len(ids), size + int(lengths[ids].sum())
    if count < 2:
        raise UserError(f"source: too short: its {file.stem} split has {count} token(s), expected at least 2")
    return Split(tokens=count, bytes=size, sha256=digest.hexdigest())
