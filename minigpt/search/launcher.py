"""Launchers: they turn jobs into running workers and say which ended. What a trial came to is in its record, not here.

A launcher draws a job when it has room for one; a cluster's may draw them all at once. So far there is one launcher,
for processes of this machine.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

_POLL_SECONDS = 0.05
_GRACE_SECONDS = 30.0  # a worker that was asked to stop saves first


@dataclass(frozen=True)
class Job:
    """One trial to train: its folder with its configuration and record, and the threads it may use."""

    folder: Path
    threads: int


@dataclass(frozen=True)
class FinishedJob:
    """A job whose worker has ended. returncode: of the process; negative: the signal that ended it."""

    job: Job
    returncode: int


class Launcher(Protocol):
    """The seam to other engines."""

    def run(self, jobs: Iterable[Job]) -> Generator[FinishedJob, None, None]:
        """Start every job and yield each as it ends. Closing the generator stops what still runs."""
        ...


class LocalLauncher:
    """One worker process per job, at most ``workers`` at a time."""

    def __init__(self, workers: int = 1):
        self.workers = workers

    def run(self, jobs: Iterable[Job]) -> Generator[FinishedJob, None, None]:
        waiting = iter(jobs)
        running: dict[Job, subprocess.Popen[bytes]] = {}
        exhausted = False
        try:
            while not exhausted or running:
                while not exhausted and len(running) < self.workers:
                    job = next(waiting, None)
                    if job is None:
                        exhausted = True
                    else:
                        running[job] = _start(job)
                ended = [job for job, process in running.items() if process.poll() is not None]
                for job in ended:
                    yield FinishedJob(job, running.pop(job).returncode)
                if not ended and running:
                    time.sleep(_POLL_SECONDS)
        finally:
            _stop(list(running.values()))


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_each(workers: int) -> int:
    """Threads per worker, so that all together are as many as the cores: unpinned workers fight over them."""
    return max(1, cores() // workers)


def _start(job: Job) -> subprocess.Popen[bytes]:
    """Start the worker of a job, in a session of its own: Ctrl-C reaches the launcher, which then asks it to stop.

    Its standard input is a pipe from here: when this process is killed, the worker reads the end of it and stops too.
    """
    threads = str(job.threads)
    environment = os.environ | {
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),  # plugins are found there too
        "PYTHONUNBUFFERED": "1",
    }
    with (job.folder / "trial.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "minigpt.search.worker", str(job.folder), "--with-parent"],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )


def _stop(processes: list[subprocess.Popen[bytes]]) -> None:
    """Ask them to save and stop; kill what has not after a while."""
    for process in processes:
        process.send_signal(signal.SIGINT)
    deadline = time.monotonic() + _GRACE_SECONDS
    for process in processes:
        try:
            process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
