"""Hooks: what watches a run, told of everything that happens in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from minigpt.training.trainer import Outcome, Trainer


class Hook:
    """Told what happens in a run; what a hook does not override, it does not care about.

    Each method is handed the Trainer: ``run.at`` is where it stands, ``run.model`` what it trains, ``run.stop(reason)``
    completes it early. During ``validated`` and ``saved`` the model holds the weights that are meant to be used.
    A hook that raises ends the run as failed; one whose failure does not matter catches its own exceptions.
    """

    def begin(self, run: Trainer) -> None:
        """Before the first step of this session, after :meth:`restore`."""

    def stepped(self, run: Trainer) -> None:
        """After a step. What it measured is still on the device."""

    def logged(self, run: Trainer, line: Mapping[str, Any]) -> None:
        """After the steps of a log line."""

    def validated(self, run: Trainer, line: Mapping[str, Any], best: bool) -> None:
        """After a validation, also one that ends the run as diverged. best: better than all before it."""

    def scored(self, run: Trainer, line: Mapping[str, Any]) -> None:
        """After an evaluation on tasks."""

    def saved(self, run: Trainer, name: Literal["last", "best"]) -> None:
        """After a checkpoint has been replaced."""

    def end(self, run: Trainer, outcome: Outcome | None) -> None:
        """At the end of the session, however it came; None when an exception ends it."""

    def state(self) -> Any:
        """What it takes to go on from a checkpoint, as plain values or tensors; None for nothing."""

    def restore(self, state: Any) -> None:
        """Go on from what :meth:`state` gave."""


def by_name(hooks: Iterable[Hook]) -> dict[str, Hook]:
    """Hooks by the name their state is kept under: their class, and a number from the second of a class on."""
    named: dict[str, Hook] = {}
    for hook in hooks:
        name = type(hook).__name__
        same = sum(type(each).__name__ == name for each in named.values())
        named[f"{name}.{same}" if same else name] = hook
    return named
