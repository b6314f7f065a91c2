"""Being asked to stop: from the keyboard, or by a cluster that wants its machine back."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

CLOSED = "output closed"
"""What interrupts a run whose reader has gone, beside signals."""


class Interruption:
    """Context manager: SIGINT and SIGTERM set ``requested`` instead of ending the process: a run can save first.

    A second signal raises KeyboardInterrupt. Outside the main thread, where no handler can be set, nothing changes.
    """

    def __init__(self) -> None:
        self.requested = ""  # the signal's name, or what else asks
        self._former: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._former[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = signal.Signals(number).name
