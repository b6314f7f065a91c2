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
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from minigpt.data.worker_pool import cores

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
    """One worker process per job, at most ``workers`` at a time: forked from a warm one where that is safe, which takes
    milliseconds, else started anew, which takes the seconds of importing torch."""

    def __init__(self, workers: int = 1):
        self.workers = workers

    def run(self, jobs: Iterable[Job]) -> Generator[FinishedJob, None, None]:
        waiting = iter(jobs)
        processes: _Processes = _Forked() if sys.platform == "linux" else _Started()
        running = 0
        exhausted = False
        try:
            while not exhausted or running:
                while not exhausted and running < self.workers:
                    job = next(waiting, None)
                    if job is None:
                        exhausted = True
                    else:
                        processes.start(job)
                        running += 1
                ended = processes.ended()
                for end in ended:
                    running -= 1
                    yield end
                if not ended and running:
                    time.sleep(_POLL_SECONDS)
        finally:
            processes.stop()


def threads_each(workers: int) -> int:
    """Threads per worker, so that all together are as many as the cores: unpinned workers fight over them. No more than
    OMP_NUM_THREADS, where somebody has set it."""
    asked = os.environ.get("OMP_NUM_THREADS", "").strip()
    limit = int(asked) if asked.isdigit() and int(asked) else cores()
    return max(1, min(limit, cores() // workers))


class _Processes(Protocol):
    """Worker processes. ended: those that have ended since it was asked last. stop: all save and end, or are killed."""

    def start(self, job: Job) -> None: ...

    def ended(self) -> list[FinishedJob]: ...

    def stop(self) -> None: ...


class _Started:
    """A new process for each job."""

    def __init__(self) -> None:
        self._running: dict[Job, subprocess.Popen[bytes]] = {}

    def start(self, job: Job) -> None:
        with (job.folder / "trial.log").open("ab") as log:
            worker = _worker(job.threads, str(job.folder), "--with-parent", stdout=log, stderr=subprocess.STDOUT)
        self._running[job] = worker

    def ended(self) -> list[FinishedJob]:
        done = [job for job, process in self._running.items() if process.poll() is not None]
        return [FinishedJob(job, self._running.pop(job).returncode) for job in done]

    def stop(self) -> None:
        for process in self._running.values():
            process.send_signal(signal.SIGINT)
        deadline = time.monotonic() + _GRACE_SECONDS
        for process in self._running.values():
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class _Forked:
    """A copy of one warm process for each job; see :func:`minigpt.search.worker.serve`."""

    def __init__(self) -> None:
        self._running: dict[str, Job] = {}
        self._server: subprocess.Popen[bytes] | None = None
        self._life, self._text = -1, b""

    def start(self, job: Job) -> None:
        if self._server is None:
            read, self._life = os.pipe()
            self._server = _worker(job.threads, "--warm", str(read), stdout=subprocess.PIPE, pass_fds=(read,))
            os.close(read)
            assert self._server.stdout is not None
            os.set_blocking(self._server.stdout.fileno(), False)
        assert self._server.stdin is not None
        self._running[str(job.folder)] = job
        with suppress(BrokenPipeError):  # it has been killed, and ended() will say so
            self._server.stdin.write(os.fsencode(job.folder) + b"\n")
            self._server.stdin.flush()

    def ended(self) -> list[FinishedJob]:
        if self._server is None:
            return []
        assert self._server.stdout is not None
        killed = self._server.poll()
        self._text += self._server.stdout.read() or b""
        *lines, self._text = self._text.split(b"\n")
        said = [os.fsdecode(line).split(" ", 1) for line in lines]
        ends = [FinishedJob(self._running.pop(folder), int(code)) for code, folder in said]
        if killed is not None:  # its workers end with it, and the next job gets another one
            self.stop()
            ends += [FinishedJob(job, -signal.SIGKILL) for job in self._running.values()]
            self._running.clear()
        return ends

    def stop(self) -> None:
        if self._server is None:
            return
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        with suppress(BrokenPipeError):
            self._server.stdin.close()
        os.close(self._life)  # every worker reads the end of it, saves and ends; then the warm one does
        with suppress(subprocess.TimeoutExpired):
            self._server.wait(_GRACE_SECONDS)
        with suppress(ProcessLookupError):
            os.killpg(self._server.pid, signal.SIGKILL)
        self._server.wait()
        self._server.stdout.close()
        self._server = None


def _worker(threads: int, *arguments: str, **streams: Any) -> subprocess.Popen[bytes]:
    """A worker process, in a session of its own: Ctrl-C reaches the launcher, which then asks it to stop.

    Its standard input is a pipe from here: when this process is killed, the worker reads the end of it and stops too.
    """
    environment = os.environ | {
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),  # plugins are found there too
        "PYTHONUNBUFFERED": "1",
    }
    command = [sys.executable, "-m", "minigpt.search.worker", *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, env=environment, start_new_session=True, **streams)
