"""Errors a person can mend, and the sentence that helps them do it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in what a person asked for.

    Its text is the whole message: where, what was expected, the nearest valid choice, the way out. Entry points print
    it without a traceback and exit with code 2.
    """


class OutsideError(UserError):
    """What a run met around it, not what was asked of it: a full disk, a file that somebody replaced. When that is
    mended, the same command goes on; a trial that ends with it has not failed."""


def shown(value: object, longest: int = 120) -> str:
    """A value as one short line that does nothing to a screen: control characters are spelt out, a long text is cut."""
    try:
        text = str(value)
    except ValueError:  # Python does not spell out numbers of thousands of digits
        return "a number too long to show"
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[: longest + 1])
    return text if len(text) <= longest else f"{text[:longest]}..."


def closest(given: object, choices: Iterable[str]) -> str | None:
    """The nearest of ``choices``, None when nothing is near."""
    near = difflib.get_close_matches(shown(given), list(choices), n=1, cutoff=0.5)
    return near[0] if near else None


def did_you_mean(given: object, choices: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the nearest of ``choices``, or ``""`` when nothing is near."""
    near = closest(given, choices)
    return f" Did you mean '{near}'?" if near else ""


def unknown(path: str, given: object, what: str, choices: Iterable[str]) -> UserError:
    """The error for a name that is not one of ``choices``: where, what, the nearest, the whole choice."""
    choices = sorted(set(choices))
    listing = ", ".join(choices) if choices else "none"
    return UserError(f"{path}: {what} '{shown(given)}'.{did_you_mean(given, choices)}\n  choices: {listing}")
