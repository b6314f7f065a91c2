"""What tells who somebody is, or opens a door: replaced by a word that says what stood there."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable

from minigpt.data.cleaning.base import Rewriter
from minigpt.errors import UserError
from minigpt.registry import register
from minigpt.schema import options

# Each pattern begins with a sign of its own and looks behind after that: a search then runs from sign to sign.
_EMAIL = re.compile(r"[\w.+%-](?<![\w.+%-]{2})[\w.+%-]{0,63}@(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24}(?![\w-])")
_IPV4 = re.compile(r"\d(?<![\w.-]\d)\d{0,2}\.(?:\d{1,3}\.){2}\d{1,3}(?![\w-]|\.\d)")
_IPV6 = re.compile(r"[23](?<![\w:.][23])[0-9A-Fa-f]{3}:(?:[0-9A-Fa-f]{0,4}:){1,6}[0-9A-Fa-f]{0,4}(?![\w:]|\.\d)")
_VERSION = re.compile(
    r"(?:[=<>~^!]=|\w/|(?:\b(?:v|ver|version|release|build|rev|revision|section|chapter)|\u00a7)[\s.:]*)\Z",
    re.IGNORECASE,
)
"""What stands before four numbers that are no address."""
_ABROAD = re.compile(r"\+(?<![\w.+/-]\+)\d{1,3}(?:[ .-]?\(?\d{1,4}\)?){2,6}(?![\w/-]|\.\d)")
_AMERICAN = re.compile(r"[\d(](?<![\w.+/-][\d(])(?:(?<=\()\d{3}\) ?|(?<=\d)\d\d-)\d{3}[ .-]\d{4}(?![\w/-]|\.\d)")
_CARD = re.compile(r"\d(?<![\w.+-]\d)(?:[ -]?\d){12,18}(?![\w-]|\.\d)")
_IBAN = re.compile(r"[A-Z](?<!\w[A-Z])[A-Z]\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?!\w)")
_KEY_BEGINS = ("sk-", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "AKIA", "xox", "glpat-", "AIza")
_KEY = re.compile(
    r"(?<!\w)(?:sk-[A-Za-z0-9_-]{20,}|gh[pousr]_[A-Za-z0-9]{36,}|AKIA[A-Z0-9]{16}|xox[abpr]-[A-Za-z0-9-]{10,}"
    r"|glpat-[\w-]{20,}|AIza[\w-]{35})(?![\w-])"
)


@register("clean", "personal")
class Personal(Rewriter):
    """Replaces personal data by placeholders: ``<EMAIL>``, ``<IP>``, ``<PHONE>``, ``<CARD>``, ``<IBAN>``, ``<KEY>``.

    email: as in mail headers. ip: public addresses, of either version; four numbers after a word such as "version" are
    none. phone: with + and country, or as written in North America. card: numbers with a valid check digit (ISO/IEC
    7812). iban: with valid check digits (ISO 13616). key: of a few services' access tokens, known by their beginnings.
    Patterns find what has the usual form, not all there is.
    """

    @options
    class Config:
        email: bool = True
        ip: bool = True
        phone: bool = True
        card: bool = True
        iban: bool = True
        key: bool = True

    def __init__(self, config: Config):
        self._masks = [mask for kind, mask in _MASKS.items() if getattr(config, kind)]
        if not self._masks:
            raise UserError(f"clean: personal: masks nothing. Leave the step out, or choose of {', '.join(_MASKS)}")

    def rewrite(self, text: str) -> str:
        for mask in self._masks:
            text = mask(text)
        return text


def _emails(text: str) -> str:
    return _EMAIL.sub("<EMAIL>", text) if "@" in text else text


def _addresses(text: str) -> str:
    def masked(match: re.Match[str]) -> str:
        before = text[max(match.start() - 12, 0) : match.start()]
        try:
            public = ipaddress.ip_address(match[0]).is_global
        except ValueError:
            return match[0]
        return "<IP>" if public and not _VERSION.search(before) else match[0]

    text = _IPV4.sub(masked, text)
    return _IPV6.sub(masked, text) if "::" in text or text.count(":") > 6 else text


def _phones(text: str) -> str:
    def masked(match: re.Match[str]) -> str:
        digits = sum(map(str.isdigit, match[0]))
        return "<PHONE>" if 8 <= digits <= 15 else match[0]

    if "+" in text:
        text = _ABROAD.sub(masked, text)
    return _AMERICAN.sub(masked, text)


def _cards(text: str) -> str:
    return _CARD.sub(lambda match: "<CARD>" if _luhn(re.sub(r"\D", "", match[0])) else match[0], text)


def _luhn(digits: str) -> bool:
    """Whether the last digit checks the others; all zeros do so, too, and are no card."""
    doubled = [sum(divmod(2 * int(d), 10)) if i % 2 else int(d) for i, d in enumerate(reversed(digits))]
    return sum(doubled) % 10 == 0 and len(set(digits)) > 1


def _ibans(text: str) -> str:
    def masked(match: re.Match[str]) -> str:
        code = match[0].replace(" ", "")
        number = "".join(str(int(sign, 36)) for sign in code[4:] + code[:4])
        return "<IBAN>" if 15 <= len(code) <= 34 and int(number) % 97 == 1 else match[0]

    return _IBAN.sub(masked, text)


def _keys(text: str) -> str:
    return _KEY.sub("<KEY>", text) if any(begin in text for begin in _KEY_BEGINS) else text


_MASKS: dict[str, Callable[[str], str]] = {
    "email": _emails, "ip": _addresses, "key": _keys, "iban": _ibans, "card": _cards, "phone": _phones,
}  # fmt: skip
