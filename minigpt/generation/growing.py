"""The text of a row while its tokens come, and where it is to end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from minigpt.data.tokenizers import Tokenizer

PENDING = 3  # tokens to wait for the rest of a character: UTF-8 has at most 4 bytes
LEAD = 4  # tokens before that a decoder is shown, for what it does to the first token of a text


class Piece(NamedTuple):
    """A part of a text that whole characters allow: the tokens ``first`` to ``last`` - 1 of the row made it."""

    first: int
    last: int
    text: str


class GrowingText:
    """The text that new tokens of one row make; it ends before the first of ``stop``, however its tokens cut that.

    A character whose bytes are spread over tokens waits for the last of them. Of two stop strings that come complete
    with one token, the one that begins first counts.
    before: the prompt's tokens. Some decoders treat the first token of a text otherwise (they take its space away), so
    new ones are decoded behind what they follow.
    text: up to the stop string. found: the stop string that ended it, or "".
    """

    def __init__(self, tokenizer: Tokenizer, before: Sequence[int] = (), stop: Sequence[str] = ()):
        self._tokenizer, self._stop = tokenizer, tuple(stop)
        self._reach = max(map(len, self._stop), default=1) - 1  # characters of a stop string that may be there already
        self._follow(list(before[-LEAD:]))
        self._pending: list[int] = []
        self._begins = [0]  # where in the text each piece begins, and
        self._firsts = [0]  # with which token; the last ones are of the piece to come
        self._released = 0  # pieces
        self.text, self.found = "", ""

    def add(self, token: int) -> bool:
        """Take the next token; whether the text ends with it."""
        self._pending.append(token)
        return self._grow(PENDING)

    def finish(self) -> bool:
        """No token follows: an incomplete character is taken as it is. Whether that completed a stop string."""
        return self._grow(0) if self._pending else bool(self.found)

    @property
    def tokens(self) -> int:
        """How many tokens have a part in the text; the last of them may reach into the stop string."""
        if not self.found:
            return self._firsts[-1] + len(self._pending)
        return max((piece.last for piece in self.pieces()), default=0)

    def pieces(self) -> Iterator[Piece]:
        """The text in pieces, those without text left out."""
        for place in range(len(self._begins) - 1):
            if piece := self.text[self._begins[place] : self._begins[place + 1]]:
                yield Piece(self._firsts[place], self._firsts[place + 1], piece)

    def released(self, last: bool = False) -> Iterator[Piece]:
        """Pieces not given before that no stop string can take back any more. last: no token follows."""
        certain = len(self.text) if last or self.found else len(self.text) - self._may_be_taken_back()
        while self._released < len(self._begins) - 1 and self._begins[self._released + 1] <= certain:
            place = self._released
            self._released += 1
            if piece := self.text[self._begins[place] : self._begins[place + 1]]:
                yield Piece(self._firsts[place], self._firsts[place + 1], piece)

    def _grow(self, patience: int) -> bool:
        tail = self._lead + self._pending
        piece = self._tokenizer.decode(tail)[len(self._read) :]
        if self.found or (piece.endswith("\N{REPLACEMENT CHARACTER}") and len(self._pending) <= patience):
            return bool(self.found)
        self._follow(self._pending)
        self._firsts.append(self._firsts[-1] + len(self._pending))
        self._pending = []
        searched = max(0, len(self.text) - self._reach)
        self.text += piece
        places = [(at, string) for string in self._stop if (at := self.text.find(string, searched)) >= 0]
        if places:
            end, self.found = min(places)
            self.text = self.text[:end]
            self._begins = [min(begin, end) for begin in self._begins]
        self._begins.append(len(self.text))
        return bool(places)

    def _follow(self, tokens: list[int]) -> None:
        """New tokens are decoded behind these, unless they are no whole characters."""
        read = self._tokenizer.decode(tokens) if tokens else ""
        broken = read.endswith("\N{REPLACEMENT CHARACTER}")
        self._lead, self._read = ([], "") if broken else (tokens, read)

    def _may_be_taken_back(self) -> int:
        """Characters at the end of the text that a stop string begins with."""
        for count in range(min(self._reach, len(self.text)), 0, -1):
            if any(string.startswith(self.text[-count:]) for string in self._stop):
                return count
        return 0
