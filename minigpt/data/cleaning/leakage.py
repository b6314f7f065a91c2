"""Documents of train that tell what val asks."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from minigpt.data.cleaning.base import Dropped, Leakage
from minigpt.data.cleaning.fingerprints import Words
from minigpt.registry import register
from minigpt.schema import Fraction, Limit, Range, options


@register("clean", "leakage")
class RunLeakage(Leakage):
    """Drops a document of train of which more than ``share`` of the words stand in val, too, in runs of ``words``.

    Runs of 13 words as in GPT-3, Brown et al. 2020, arXiv:2005.14165, appendix C. Of val every ``words``-th run is
    remembered, so that any common stretch of 2 words - 1 words is found; of train all are looked up. Split and
    validation stay as they are. Holds 8 bytes for every ``words`` words of val.
    share: of a document's words, at most. words: in a run; a shorter document counts as one run.
    """

    @options
    class Config:
        share: Fraction = 0.2
        words: Annotated[int, Range(ge=1), Limit(1000)] = 13

    def __init__(self, config: Config):
        self.config = config
        self._learned: list[np.ndarray] = []
        self._known: np.ndarray | None = None

    def sketch(self, text: str) -> bytes:
        """The number of words, then the hash of every run."""
        words = Words(text)
        return np.uint64(len(words)).tobytes() + words.runs(self.config.words).tobytes()

    def learn(self, sketch: bytes) -> None:
        runs = np.frombuffer(sketch, dtype="<u8", offset=8)
        if len(runs):
            last = runs[-1:] if (len(runs) - 1) % self.config.words else runs[:0]
            self._learned.append(np.concatenate([runs[:: self.config.words], last]))

    def judge_sketch(self, sketch: bytes) -> Dropped | None:
        if self._known is None:
            self._known = np.unique(np.concatenate([*self._learned, np.zeros(0, dtype=np.uint64)]))
            self._learned = []
        words = int(np.frombuffer(sketch, dtype="<u8", count=1)[0])
        runs = np.frombuffer(sketch, dtype="<u8", offset=8)
        if not len(runs) or not len(self._known):
            return None
        places = np.minimum(np.searchsorted(self._known, runs), len(self._known) - 1)
        hits = self._known[places] == runs
        if not hits.any():
            return None
        length = min(self.config.words, words)
        change = np.zeros(words + 1, dtype=np.int64)
        change[: len(runs)] += hits
        change[length : length + len(runs)] -= hits
        share = float((np.cumsum(change[:-1]) > 0).mean())
        return Dropped("stands in val, too", f"{share:.0%} of the words") if share > self.config.share else None
