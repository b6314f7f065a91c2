"""A preparation under way: token files that grow shard by shard in a folder of their own, until they are whole.

After each shard the files are on the disk and ``progress.json`` says how far they go. Whatever ends the process, the
next one that prepares the same begins after the last shard.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Mapping
from itertools import accumulate
from pathlib import Path
from typing import IO, Any

import numpy as np

from minigpt.data.dataset_folder import INDEX, SPLITS, Size, Split
from minigpt.data.encoding import Encoded
from minigpt.errors import UserError
from minigpt.files import read_json, sha256_of, sync, write_json
from minigpt.schema import options, plain, typed

SHARD = 1 << 25
"""Bytes of tokens after which what is written is safe: some 60 MB of English in byte pairs."""
PROGRESS = "progress.json"


@options
class Written:
    """How far one split is. open: whether its last document goes on."""

    tokens: Size = 0
    bytes: Size = 0
    documents: Size = 0
    open: bool = False


@options
class Progress:
    """``progress.json``. of: what is being prepared. batches: how many are written."""

    of: dict[str, Any]
    batches: Size = 0
    train: Written = Written()
    val: Written = Written()


class WorkFolder:
    """``with WorkFolder(path, of, dtype) as work``: then ``add`` batches from ``work.batches`` on, and ``finish``.

    of: all that decides what is written; what an interrupted preparation of something else left is removed. Left by an
    error of the user's, the folder goes; left by any other, it stays, to be gone on with.
    """

    def __init__(self, path: Path, of: Mapping[str, Any], dtype: str):
        self.path, self.dtype = path, dtype
        self._files: dict[str, IO[bytes]] = {}
        self._since = 0
        self._progress = self._found(dict(of)) or Progress(of=dict(of))

    @property
    def batches(self) -> int:
        return self._progress.batches

    @property
    def tokens(self) -> int:
        return self._progress.train.tokens + self._progress.val.tokens

    def __enter__(self) -> WorkFolder:
        if not self.batches:
            shutil.rmtree(self.path, ignore_errors=True)
            self.path.mkdir(parents=True)
        for name, size in self._sizes(self._progress).items():
            self._files[name] = (self.path / name).open("ab")
            self._files[name].truncate(size)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for file in self._files.values():
            with contextlib.suppress(OSError):  # what a full disk refuses is not counted as written
                file.close()
        if kind is UserError:
            shutil.rmtree(self.path, ignore_errors=True)

    def add(self, encoded: Encoded) -> None:
        """Write the next batch."""
        split = SPLITS[encoded.split]
        written: Written = getattr(self._progress, split)
        starts = [written.tokens + before for before in accumulate(encoded.lengths, initial=0)][:-1]
        begins = [not written.open, *encoded.ends[:-1]]
        index = [start for start, begin in zip(starts, begins, strict=True) if begin]
        self._files[f"{split}.bin"].write(encoded.tokens)
        self._files[INDEX[split]].write(np.array(index, dtype="<u8").tobytes())
        written = Written(
            tokens=written.tokens + sum(encoded.lengths),
            bytes=written.bytes + encoded.text_bytes,
            documents=written.documents + len(index),
            open=not encoded.ends[-1],
        )
        others = {name: getattr(self._progress, name) for name in SPLITS if name != split}
        self._progress = Progress(of=self._progress.of, batches=self.batches + 1, **others, **{split: written})
        self._since += len(encoded.tokens)
        if self._since >= SHARD:
            self._save()

    def finish(self) -> dict[str, Split]:
        """The files are whole: what they hold. Raises UserError for a split of fewer than 2 tokens."""
        self._save()
        splits = {}
        for split in SPLITS:
            written: Written = getattr(self._progress, split)
            if written.tokens < 2:
                raise UserError(
                    f"source: too short: its {split} split has {written.tokens} token(s), expected at least 2"
                )
            splits[split] = Split(
                tokens=written.tokens,
                bytes=written.bytes,
                sha256=sha256_of(self.path / f"{split}.bin"),
                documents=written.documents,
            )
        return splits

    def _save(self) -> None:
        for name, file in self._files.items():
            file.flush()
            sync(self.path / name)
        write_json(self.path / PROGRESS, plain(self._progress))
        self._since = 0

    def _found(self, of: Mapping[str, Any]) -> Progress | None:
        """How far an interrupted preparation of the same came; None when there was none, or its files are not whole."""
        try:
            progress = typed(Progress, read_json(self.path / PROGRESS), PROGRESS)
            sizes = self._sizes(progress)
            whole = all((self.path / name).stat().st_size >= size for name, size in sizes.items())
        except (UserError, OSError):
            return None
        return progress if whole and progress.of == of else None

    def _sizes(self, progress: Progress) -> dict[str, int]:
        """Every file -> the bytes of it that are counted as written."""
        width = np.dtype(self.dtype).itemsize
        sizes = {f"{split}.bin": getattr(progress, split).tokens * width for split in SPLITS}
        return sizes | {INDEX[split]: getattr(progress, split).documents * 8 for split in SPLITS}
