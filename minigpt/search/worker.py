"""The worker: one trial, one process. ``python -m minigpt.search.worker <trial folder>``, or ``--warm`` for many.

A trial's folder holds its ``config.yaml`` and its run record before the worker starts, so that a trial which never came
to its first checkpoint is nothing special: it goes on from step 0. A launcher's worker ends when the launcher does: it
reads the end of its standard input then. A warm one imports what takes seconds once, and forks for each trial it is
named: a process each as before, without the seconds.
"""

from __future__ import annotations

import dataclasses
import os
import select
import signal
import sys
import threading
import time
import traceback
from contextlib import suppress
from pathlib import Path

from minigpt import config
from minigpt.config import TrainConfig
from minigpt.errors import OutsideError
from minigpt.files import Holder, Lock, is_disk_full
from minigpt.screen import say
from minigpt.training.record import FINAL, LOCK, read_run

_GRACE_SECONDS = 30.0
_POLL_SECONDS = 0.02
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
                again = isinstance(error, KeyboardInterrupt | OutsideError) or is_disk_full(error)
                reason = "" if isinstance(error, KeyboardInterrupt) else f"{type(error).__name__}: {error}"
                record.close_without_room("interrupted" if again else "failed", reason)
            raise


def only_worker_of(folder: Path) -> Lock:
    """The lock of a trial's run, which waits until no other process has it: one whose sweep was killed may be saving.

    Says whom it waits for, when that takes longer than saving does.
    """
    return Lock(folder / LOCK, lambda holder: say(_whom(folder, holder), lines=True), patience=_PATIENCE_SECONDS)


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


def serve(life: int) -> None:
    """Fork a worker for every folder that standard input names, a line each, until it ends; say how each has ended.

    life: a pipe that workers read the end of when the launcher ends, in place of their standard input.
    Writes ``<exit code> <folder>``, a negative code for the signal that ended it.
    """
    import minigpt.training.fit  # noqa: F401  # torch, before the first is asked for

    running: dict[int, str] = {}
    text, is_open = b"", True
    while is_open or running:
        if is_open and select.select([0], [], [], _POLL_SECONDS)[0]:
            read = os.read(0, 1 << 16)
            is_open = bool(read)
            *folders, text = (text + read).split(b"\n")
            for folder in map(os.fsdecode, folders):
                running[_fork(Path(folder), life)] = folder
        elif not is_open:
            time.sleep(_POLL_SECONDS)
        while running:
            process, status = os.waitpid(-1, os.WNOHANG)
            if process == 0:
                break
            end = f"{os.waitstatus_to_exitcode(status)} {running.pop(process)}\n"
            with suppress(BrokenPipeError):  # the launcher has been killed; what is left is for the workers to save
                os.write(1, os.fsencode(end))


def _fork(folder: Path, life: int) -> int:
    """Start the worker of a folder as a copy of this process; returns its number, and never comes back in the copy."""
    process = os.fork()
    if process != 0:
        return process
    code = 1
    try:
        log = os.open(folder / "trial.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        for stream, taken in enumerate((life, log, log)):
            os.dup2(taken, stream)
        code = _work(folder, with_parent=True)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _work(folder: Path, *, with_parent: bool) -> int:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a parent in the background would hand down "ignored"
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if with_parent:
        threading.Thread(target=_stop_with_parent, daemon=True).start()
    try:
        return train(folder)
    except KeyboardInterrupt:
        return 130


def main() -> None:
    """Entry point of the process: ``<trial folder> [--with-parent]``; the flag ties its life to its standard input.
    ``--warm <life>`` serves."""
    if sys.argv[1] == "--warm":
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # its end is the end of its standard input
        serve(int(sys.argv[2]))
    else:
        sys.exit(_work(Path(sys.argv[1]), with_parent="--with-parent" in sys.argv))


if __name__ == "__main__":
    main()
