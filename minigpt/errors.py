"""Errors a person can mend, and the sentence that helps them do it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in what a person asked for.

    Its text is the whole message: where, what was expected, the nearest valid choice, the way out. Entry points print
    it without a traceback and exit with code 2.
    """


def did_you_mean(given: object, choices: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the nearest of ``choices``, or ``""`` when nothing is near."""
    near = difflib.get_close_matches(str(given), list(choices), n=1, cutoff=0.5)
    return f" Did you mean '{near[0]}'?" if near else ""


def unknown(path: str, given: object, what: str, choices: Iterable[str]) -> UserError:
    """The error for a name that is not one of ``choices``: where, what, the nearest, the whole choice."""
    choices = sorted(choices)
    listing = ", ".join(choices) if choices else "none"
    return UserError(f"{path}: {what} '{given}'.{did_you_mean(given, choices)}\n  choices: {listing}")
