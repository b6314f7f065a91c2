"""Prepare a dataset: text -> tokenizer.json, train.bin, val.bin, their documents and meta.json, whole or not at all.

The text streams by twice: once to be counted and hashed, once to be encoded, in several processes if it is long.
Interrupted, the same command goes on after the last shard that was written.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from minigpt import screen
from minigpt.checkpoint_folder import find_checkpoint
from minigpt.data.bpe import VOCAB_SIZE, train_bpe
from minigpt.data.cleaning.run import Train, clean
from minigpt.data.cleaning.steps import Steps
from minigpt.data.cleaning.tally import Tally
from minigpt.data.dataset_folder import CLEANING, FILES, Meta, Split, check_name, dtype_for, open_prepared, read_meta
from minigpt.data.document import Document
from minigpt.data.encoding import Cut, Encoded, batches
from minigpt.data.encoding_pool import encoded
from minigpt.data.hf_files import read_tokenizer
from minigpt.data.prepare_config import PrepareConfig
from minigpt.data.recipe import KINDS, Recipe, load_recipe
from minigpt.data.source import Source, open_source
from minigpt.data.survey import Digest, Survey, survey, with_text
from minigpt.data.tiktoken_bpe import is_path, load_encoding
from minigpt.data.token_source import TokenSource, token_source
from minigpt.data.tokenizers import ByteTokenizer, CharTokenizer, Tokenizer
from minigpt.data.work_folder import WorkFolder
from minigpt.data.worker_pool import cores
from minigpt.errors import UserError
from minigpt.files import Holder, Lock, beside, plainly, write_json, write_text
from minigpt.schema import plain

__all__ = ["PrepareConfig", "prepare"]

WORTH_WORKERS = 1 << 24  # characters; fewer are encoded before another process has started
QUIET_SECONDS = 5.0  # between lines that say how far it is


@dataclass(frozen=True)
class _Plan:
    """All that decides what is written, before anything is read."""

    source: Source | TokenSource
    kind: str
    encoding: str
    vocab_size: int
    val_fraction: float
    characters: str | None
    given: Tokenizer | None
    cleaning: Steps
    train: Train | None = None  # where the cleaning has decided it
    tally: Tally | None = None  # of the cleaning, when it is done

    @property
    def made(self) -> str:
        parts = [f"tokenizer={self.kind}"]
        if self.kind == "tiktoken" and not self.given:
            parts.append(f"encoding={Path(self.encoding).stem}")
        if self.kind == "bpe" and not self.given:
            parts.append(f"vocab_size={self.vocab_size}")
        tokens = isinstance(self.source, TokenSource)
        given = isinstance(self.source, TokenSource) and self.source.given
        parts.append("splits as given" if given else f"val_fraction={self.val_fraction}")
        if self.cleaning:
            parts.append(f"clean={self.cleaning.hash}")
        return " ".join([*parts, *(["from tokens"] if tokens else [])])

    def cut(self, found: Survey, padded: bool) -> Cut:
        """Where validation begins. padded: whether documents that lack a newline get one."""
        total = found.characters + (found.unended if padded else 0)
        if self.train is None:
            return Cut.of(total, self.val_fraction)
        return Cut(self.train.characters + (self.train.unended if padded else 0), total)


def prepare(config: PrepareConfig, say: Callable[[str], None] = screen.say) -> Path:
    """Write ``folder/name`` and return its path. say: gets one line of progress at a time.

    The same text prepared the same way again changes nothing. Raises UserError, with nothing written, for text that
    cannot be used and for a folder that holds something else, unless ``overwrite``.
    """
    name = check_name(config.dataset or config.name or "")
    target = Path(config.folder) / name
    plan = _plan(config)
    with (
        plainly(target, way_out="\n  Choose another place: folder=<folder>"),
        _alone_in(target),
        _cleaned(plan, config, target, say) as plan,
    ):
        _publish(target)
        found = _survey(plan, say)
        if not config.overwrite and _is_there(target, name, plan, found):
            say(f"{target}: already prepared from this text with {plan.made}; nothing to do")
            return target
        unit = "tokens" if isinstance(plan.source, TokenSource) else "characters"
        say(f"{name}: {found.characters:,} {unit} in {found.documents:,} document(s)")
        if found.empty:
            say(f"  {found.empty:,} empty document(s) left out")
        _write(target, name, plan, found, config.workers, say)
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


@contextlib.contextmanager
def _cleaned(plan: _Plan, config: PrepareConfig, target: Path, say: Callable[[str], None]) -> Iterator[_Plan]:
    """The plan for what the cleaning leaves of the source; it lies in a folder of its own as long as the block goes."""
    if not plan.cleaning:
        yield plan
        return
    assert isinstance(plan.source, Source)
    folder = beside(target, "cleaning")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        documents = with_text(plan.source.documents())
        kept = clean(
            documents, plan.cleaning, folder, val_fraction=plan.val_fraction, workers=config.workers,
            plugins=config.plugins, seen=_Progress(say, "cleaned"),
        )  # fmt: skip
        for line in kept.tally.table():
            say(line)
        source = Source(plan.source.name, kept.documents)
        yield dataclasses.replace(plan, source=source, train=kept.train, tally=kept.tally)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _plan(config: PrepareConfig) -> _Plan:
    recipe = load_recipe(config.dataset) if config.dataset else Recipe(documents=list)
    given = _tokenizer_of(config.tokenizer_of) if config.tokenizer_of else None
    if config.tokenizer and config.tokenizer not in KINDS:
        given = read_tokenizer(Path(config.tokenizer).expanduser())
    kind = given.kind if given else config.tokenizer or recipe.tokenizer
    if config.encoding and kind != "tiktoken":
        raise UserError(f"encoding: is for tokenizer=tiktoken, not for {kind}; leave it out, or name the tokenizer")
    return _Plan(
        source=_source(config, recipe),
        kind=kind,
        encoding=config.encoding or recipe.encoding,
        vocab_size=config.vocab_size or VOCAB_SIZE,
        val_fraction=recipe.val_fraction if config.val_fraction is None else config.val_fraction,
        characters=recipe.characters if not config.source else None,
        given=given,
        cleaning=config.clean,
    )


def _source(config: PrepareConfig, recipe: Recipe) -> Source | TokenSource:
    if not config.source:
        origin = f"recipe data/{config.dataset}/dataset.py"
        texts = recipe.documents()
        return Source(origin, lambda: (Document(text, f"{origin}: {i}") for i, text in enumerate(texts, start=1)))
    tokens = token_source(config.source, config.val_fraction)
    if not tokens:
        return open_source(config.source, config.text_key)
    if config.clean:
        raise UserError(f"clean: {config.source} holds tokens, and it is text that is cleaned; leave it out")
    if config.text_key:
        raise UserError(f"text_key: {config.source} holds tokens, which have no fields; leave it out")
    if not config.tokenizer_of and config.tokenizer in (None, "char", "bpe"):
        raise UserError(
            f"source: {config.source} holds tokens; say which tokenizer made them: tokenizer=tiktoken encoding=gpt2, "
            "tokenizer=<file>/tokenizer.json, or tokenizer_of=<dataset, run or checkpoint>"
        )
    return tokens


def _survey(plan: _Plan, say: Callable[[str], None]) -> Survey:
    if isinstance(plan.source, TokenSource):
        return plan.source.survey(_tokenizer(plan, Survey()))
    found = survey(
        plan.source.documents(),
        alphabet=plan.kind == "char" and not plan.given and not plan.characters,
        sample=plan.kind == "bpe" and not plan.given,
        seen=_Progress(say, "read"),
    )
    if not found.documents:
        what = "only empty documents" if found.empty > 1 else "no text"
        raise UserError(f"source: {plan.source.name} is empty: it holds {what}")
    return found


def _is_there(target: Path, name: str, plan: _Plan, found: Survey) -> bool:
    """Whether the target already holds exactly this; UserError when it holds something else: not ours to destroy."""
    if not any((target / file).exists() for file in (*FILES, "meta.pkl")):
        return False
    if (target / "meta.json").exists():
        meta = read_meta(target / "meta.json", "\n  Replace it: overwrite=true")
        if _is_same(meta, plan, found):
            open_prepared(name, target.parent)  # raises with the way out when a file of it is damaged
            return True
        text = "the same text" if meta.source_sha256 == found.sha256 else "other text"
        held = f"prepared with {meta.made} from {text}"
    else:
        held = "with files that another tool or an interrupted run left"
    raise UserError(
        f"{target}: already there, {held}; nothing was changed.\n  Replace it: overwrite=true, or choose another name"
    )


def _is_same(meta: Meta, plan: _Plan, found: Survey) -> bool:
    if (meta.source_sha256, meta.made) != (found.sha256, plan.made):
        return False
    if not plan.given and (plan.kind == "bpe" or (plan.kind == "tiktoken" and not is_path(plan.encoding))):
        return True  # the same text trains the same one; a published name means one, and may need the network
    return meta.tokenizer_hash == _tokenizer(plan, found).hash


def _tokenizer_of(path: str) -> Tokenizer:
    """The tokenizer of a prepared dataset, a run or a checkpoint."""
    file = Path(path) / "tokenizer.json"
    return read_tokenizer(file if file.is_file() else find_checkpoint(path) / file.name)


def _tokenizer(plan: _Plan, found: Survey) -> Tokenizer:
    if plan.given:
        return plan.given
    if plan.kind == "char":
        newline = {"\n"} if found.documents > 1 else set()
        return CharTokenizer(plan.characters or "".join(sorted(found.alphabet | newline)))
    if plan.kind == "byte":
        return ByteTokenizer()
    if plan.kind == "bpe":
        return train_bpe(found.sample_before(plan.cut(found, padded=False).at), plan.vocab_size)
    return load_encoding(plan.encoding)


def _write(
    target: Path, name: str, plan: _Plan, found: Survey, workers: int | None, say: Callable[[str], None]
) -> None:
    """Encode into a folder of its own, which becomes ``target`` when it is whole."""
    tokenizer = _tokenizer(plan, found)
    short = plan.kind == "bpe" and tokenizer.vocab_size < plan.vocab_size
    fewer = f", of {plan.vocab_size:,}: the text has no further pair to merge" if short else ""
    say(f"  tokenizer {tokenizer.kind}, vocabulary of {tokenizer.vocab_size:,}{fewer}")
    of = {"source": found.sha256, "made": plan.made, "tokenizer": tokenizer.hash}
    with WorkFolder(_work(target), of, dtype_for(tokenizer.vocab_size)) as work:
        if work.batches:
            say(f"  goes on where an interrupted preparation of it stopped, after {work.tokens:,} tokens")
        for batch in _encoded(plan, found, tokenizer, work.batches, workers, say):
            work.add(batch)
        splits = work.finish()
        write_text(work.path / "tokenizer.json", json.dumps(tokenizer.to_json()))
        if plan.tally is not None:
            write_json(work.path / CLEANING[0], plan.tally.to_plain())
            write_text(work.path / CLEANING[1], plan.tally.markdown())
        write_json(work.path / "meta.json", plain(_meta(name, plan, found, tokenizer, splits)))
    _publish(target)


def _encoded(
    plan: _Plan, found: Survey, tokenizer: Tokenizer, start: int, workers: int | None, say: Callable[[str], None]
) -> Iterator[Encoded]:
    """The source in tokens, from batch number ``start`` on."""
    several = found.documents > 1
    newline, ended = several and tokenizer.eot_token is None, several and tokenizer.eot_token is not None
    cut = plan.cut(found, newline)
    if isinstance(plan.source, TokenSource):
        return itertools.islice(plan.source.encoded(tokenizer, cut), start, None)
    seen = _Progress(say, "encoded", found.characters)
    todo = itertools.islice(batches(_unchanged(plan.source, found, seen), cut, newline), start, None)
    if workers is None:
        workers = cores() if found.characters >= WORTH_WORKERS else 1
    return encoded(todo, tokenizer, dtype_for(tokenizer.vocab_size), ended, workers)


def _unchanged(source: Source, found: Survey, seen: Callable[[int], None]) -> Iterator[Document]:
    """The documents that were surveyed. Raises UserError at their end when they are not."""
    digest = Digest()
    for document in with_text(source.documents()):
        digest.add(document.text)
        seen(len(document.text))
        yield document
    if digest.hexdigest() != found.sha256:
        raise UserError(
            f"source: {source.name} was changed while it was prepared. Start again when nobody writes to it"
        )


def _meta(name: str, plan: _Plan, found: Survey, tokenizer: Tokenizer, splits: dict[str, Split]) -> Meta:
    share = f"the first {1 - plan.val_fraction:.4g} of all"
    rule = "in document order, is train, up to the end of a document where one is near; the rest is val"
    split = f"{share} characters, {rule}"
    if plan.train is not None:
        split += "; then documents of train that also stand in val were left out"
    if isinstance(plan.source, TokenSource):
        split = "as the source gives it" if plan.source.given else f"{share} tokens, {rule}"
    return Meta(
        name=name,
        vocab_size=tokenizer.vocab_size,
        dtype=dtype_for(tokenizer.vocab_size),
        tokenizer=tokenizer.kind,
        tokenizer_hash=tokenizer.hash,
        train=splits["train"],
        val=splits["val"],
        split=split,
        source=plan.source.name,
        source_sha256=found.sha256,
        made=plan.made,
        cleaning={"hash": plan.cleaning.hash, "steps": plan.cleaning.to_plain()} if plan.cleaning else None,
        python=platform.python_version(),
    )


def _work(target: Path) -> Path:
    return beside(target, "preparing")


def _publish(target: Path) -> None:
    """Move what is whole into place, meta.json last: it vouches for the rest. Interrupted, the next one ends it."""
    work = _work(target)
    if not (work / "meta.json").is_file():
        return
    (target / "meta.json").unlink(missing_ok=True)
    for file in FILES:
        if (work / file).exists():
            os.replace(work / file, target / file)
        elif file in CLEANING:  # of what stood here before
            (target / file).unlink(missing_ok=True)
    shutil.rmtree(work, ignore_errors=True)


class _Progress:
    """Says every few seconds how far it is. total: characters in all, if that is known."""

    def __init__(self, say: Callable[[str], None], doing: str, total: int | None = None):
        self._say, self._doing, self._total = say, doing, total
        self._done, self._begin = 0, time.monotonic()
        self._last = self._begin

    def __call__(self, characters: int) -> None:
        self._done += characters
        now = time.monotonic()
        if now - self._last < QUIET_SECONDS:
            return
        self._last = now
        rate = self._done / (now - self._begin)
        line = f"  {self._doing} {self._done / 1e6:,.0f} million characters"
        if self._total:
            left = (self._total - self._done) / rate
            line += f" of {self._total / 1e6:,.0f}, {left:,.0f} s left"
        self._say(f"{line} ({rate / 1e6:.1f} million a second)")
