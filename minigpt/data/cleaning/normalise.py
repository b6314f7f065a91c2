"""One form for what can be written in several ways, and nothing that cannot be seen."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from typing import Literal

from minigpt.data.cleaning.base import Rewriter
from minigpt.errors import UserError
from minigpt.registry import register
from minigpt.schema import options

_UNSEEN = re.compile(
    "[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb]"
)
"""Controls, zero-width spaces, marks of direction. Joiners (U+200C, U+200D) stay: words and emoji are made of them."""
_LINE_END = re.compile("\r\n?|\x85|\u2028|\u2029")
_SURROGATE = re.compile("[\ud800-\udfff]")
_SPACES = re.compile("[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]")
_TRAILING = re.compile(r"[ \t]+$", re.MULTILINE)
_RUN = re.compile(r"[ \t]{2,}|\t")
_BLANK_LINES = re.compile(r"\n{3,}")


@register("clean", "normalise")
class Normalise(Rewriter):
    """Rewrites a text in one form.

    form: of Unicode; NFC keeps what is seen, NFKC also unites what only looks different (ligatures, full-width
    letters). controls: take out characters that are not seen. mojibake: mend text that was decoded wrongly ("cafÃ©"),
    with ftfy. whitespace: trailing takes out spaces before a line end and more than one blank line; collapse also makes
    one space of every run of them, which breaks the indentation of code.
    """

    @options
    class Config:
        form: Literal["NFC", "NFKC", "none"] = "NFC"
        controls: bool = True
        mojibake: bool = True
        whitespace: Literal["none", "trailing", "collapse"] = "trailing"

    def __init__(self, config: Config):
        self.config = config
        self._fixed = _fixer() if config.mojibake else None

    def rewrite(self, text: str) -> str:
        plain = text.isascii()
        if not plain:
            text = _SURROGATE.sub("\ufffd", text)
            if self._fixed is not None:
                text = self._fixed(text)
            if self.config.form != "none":
                text = unicodedata.normalize(self.config.form, text)
        if not plain or "\r" in text:
            text = _LINE_END.sub("\n", text)
        if self.config.controls:
            text = _UNSEEN.sub("", text)
        if self.config.whitespace == "none":
            return text
        if not plain:
            text = _SPACES.sub(" ", text)
        if self.config.whitespace == "collapse":
            text = _RUN.sub(" ", text)
        if " \n" in text or "\t\n" in text or text[-1:] in (" ", "\t"):
            text = _TRAILING.sub("", text)
        if "\n\n\n" in text:
            text = _BLANK_LINES.sub("\n\n", text)
        return text.strip("\n")


def _fixer() -> Callable[[str], str]:
    """Text -> text with wrongly decoded stretches mended, and nothing else of what ftfy can do."""
    try:
        import ftfy
    except ImportError:
        raise UserError(
            "clean: normalise.mojibake needs ftfy: pip install 'minigpt[data]', or mojibake=false"
        ) from None
    from ftfy.badness import is_bad

    def fixed(text: str) -> str:
        if not is_bad(text):
            return text
        return "".join(ftfy.fix_encoding(line) if is_bad(line) else line for line in text.splitlines(keepends=True))

    return fixed
