"""The flags that sample scripts descended from nanoGPT know, in the words of this command line."""

from __future__ import annotations

import typing
from collections.abc import Iterator

from minigpt.cli.words import members
from minigpt.errors import UserError, did_you_mean, shown

RENAMED = {"out_dir": "checkpoint"}
KINDS = ("probability", "rank", "entropy")
_OURS = ("help", "version", "resolve", "multirun", "cfg", "config_dir")


def in_our_words(arguments: list[str], root: type) -> list[str]:
    """``--out_dir X`` is ``checkpoint=X``; ``--colorize_output`` alone is by probability, ``--no-show_heatmaps`` is
    ``show_heatmaps=false``. What is no flag stays as it is. Raises UserError for one that is neither old nor ours."""
    hints = typing.get_type_hints(root, include_extras=True)
    flags = [f"--{name}" for name in [*RENAMED, *hints, *_OURS]]
    found: list[str] = []
    waiting = iter(enumerate(arguments))
    for place, argument in waiting:
        head, equals, value = argument.partition("=")
        key = head.removeprefix("--").replace("-", "_")
        if not head.startswith("--") or "." in key:
            found.append(argument)
            continue
        bare = key.removeprefix("no_")
        if key not in [*RENAMED, *hints, *_OURS] and not (bare != key and _is_switch(bare, hints)):
            raise UserError(
                f"{shown(head, 60)}: there is no such option.{did_you_mean(head, flags)} --help lists what there is"
            )
        following = arguments[place + 1] if place + 1 < len(arguments) else ""
        if bare != key and not equals:
            found.append(f"{bare}={'null' if bare == 'colorize_output' else 'false'}")
        elif key == "colorize_output":
            found.append(f"{key}={_kind(value if equals else _taken(following, waiting, (*KINDS, *_SWITCH)))}")
        elif key in hints and _is_switch(key, hints) and not equals and following.lower() in _SWITCH:
            found.append(f"{key}={next(waiting)[1].lower()}")
        elif key in RENAMED:
            if not equals and not following:
                raise UserError(f"{head}: expected a value after it")
            found.append(f"{RENAMED[key]}={value if equals else next(waiting)[1]}")
        else:
            found.append(argument)
            if not equals and key in hints and not _is_switch(key, hints) and following:
                found.append(next(waiting)[1])  # its value, which may look like a flag
    return found


_SWITCH = ("true", "false")


def _is_switch(key: str, hints: dict[str, typing.Any]) -> bool:
    return key == "colorize_output" or (key in hints and bool in list(members(hints[key])))


def _taken(following: str, waiting: Iterator[tuple[int, str]], values: tuple[str, ...]) -> str:
    """The word that follows a flag, if it is one of its values."""
    return next(waiting)[1] if following.lower() in values else "true"


def _kind(value: str) -> str:
    return {"true": "probability", "false": "null"}.get(value.lower(), value)
