"""The worker: one trial, one process. ``python -m minigpt.search.worker <trial folder>``

A trial's folder holds its ``config.yaml`` and its run record before the worker starts, so that a trial which never came
to its first checkpoint is nothing special: it goes on from step 0. A launcher's worker ends when the launcher does: it
reads the end of its standard input then.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from minigpt import config
from minigpt.config import TrainConfig
from minigpt.files import Holder, Lock, is_disk_full
from minigpt.training.record import FINAL, LOCK, read_run

_GRACE_SECONDS = 30.0
_PATIENCE_SECONDS = 3.0  # for another worker that saves, before anybody is told


def train(folder: Path) -> int:
    """Train the trial of a folder, or go on with it; returns the exit code: 0 when it completed.

    Whatever goes wrong ends up in the record. An interrupt is passed on.
    """
    with only_worker_of(folder) as lock:
        if read_run(folder).status in FINAL:
            return 0
        try:
            from minigpt.training.fit import fit  # torch: inside what is recorded

            run = config.check(config.load_yaml(folder / "config.yaml"), TrainConfig)
            return 0 if fit(dataclasses.replace(run, resume=str(folder)), lock=lock).status == "completed" else 1
        except BaseException as error:
            record = read_run(folder)
            if record.status == "running":  # it ended before the run itself could say so
                again = isinstance(error, KeyboardInterrupt) or is_disk_full(error)
                reason = "" if isinstance(error, KeyboardInterrupt) else f"{type(error).__name__}: {error}"
                record.close_without_room("interrupted" if again else "failed", reason)
            raise


def only_worker_of(folder: Path, say: Callable[[str], None] = print) -> Lock:
    """The lock of a trial's run, which waits until no other process has it: one whose sweep was killed may be saving.

    say: told whom this waits for, when it takes longer than saving does.
    """
    return Lock(folder / LOCK, lambda holder: say(_whom(folder, holder)), patience=_PATIENCE_SECONDS)


def _whom(folder: Path, holder: Holder) -> str:
    """Who holds a trial, and how to go on."""
    state = Path(f"/proc/{holder.pid}/stat")
    stopped = state.is_file() and state.read_text().rsplit(")", 1)[-1].split()[0] in "Tt"
    way_out = f"let it go on with: kill -CONT {holder.pid}; or end it with: kill -KILL {holder.pid}"
    left = "stopped" if stopped else "running"
    return (
        f"{folder}: waiting for its worker, {holder}, which an earlier start has left {left}\n"
        f"  {way_out}; this command then takes the trial over"
    )


def _stop_with_parent() -> None:
    """Interrupt this process when its standard input ends; if it does not come to an end, end it."""
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(_GRACE_SECONDS)
    os._exit(1)


def main() -> None:
    """Entry point of the process: ``<trial folder> [--with-parent]``; the flag ties its life to its standard input."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a parent in the background would hand down "ignored"
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if "--with-parent" in sys.argv:
        threading.Thread(target=_stop_with_parent, daemon=True).start()
    try:
        code = train(Path(sys.argv[1]))
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)


if __name__ == "__main__":
    main()
