"""Work on texts in several processes: requests go out to whoever is free, answers come back in their order.

A worker is a module of ours, run as such, that calls :func:`serve`. It is told once what the work is, then gets
requests and gives answers over its pipes; it ends when they close, so none outlives the process that started it.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, TypeVar

from minigpt.errors import OutsideError, UserError

Item = TypeVar("Item")
Answer = tuple[Any, bytes]
"""Plain data, and bytes that would be large as such."""

ONE_THREAD = {"TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
PACKAGE = Path(__file__).resolve().parents[2]


def answers(
    module: str, setup: Any, requests: Iterable[tuple[Item, Any]], workers: int
) -> Iterator[tuple[Item, Any, bytes]]:
    """(item, answer) for every (item, request), in their order. setup: plain data that says what the work is.

    Raises UserError when a worker did, and OutsideError when one is killed.
    """
    idle: queue.SimpleQueue[subprocess.Popen[bytes]] = queue.SimpleQueue()
    processes: list[subprocess.Popen[bytes]] = []
    threads = ThreadPoolExecutor(workers)
    try:
        for _ in range(workers):
            processes.append(_started(module))
        for process in processes:
            with suppress(OSError):  # one that has ended is found out when it is asked
                _send(process.stdin, _packed(setup))
            idle.put(process)
        waiting: deque[tuple[Item, Future[Answer]]] = deque()
        for item, request in requests:
            waiting.append((item, threads.submit(_ask, idle, request)))
            if len(waiting) > 2 * workers:
                first, future = waiting.popleft()
                yield first, *future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, *future.result()
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with suppress(OSError):
                    pipe.close()  # type: ignore[union-attr]


def serve(make: Callable[[Any], Callable[[Any], Answer]]) -> None:
    """The life of a worker. make: what to do with the setup; it gives what to do with a request."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started this one, and ends both
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    with suppress(EOFError, BrokenPipeError):
        requests = sys.stdin.buffer
        work = make(json.loads(_received(requests)))
        while True:
            request = json.loads(_received(requests))
            content = b""
            try:
                said, content = work(request)
                said = {"answer": said}
            except UserError as error:
                said = {"error": str(error)}
            _send(output, _packed(said))
            _send(output, content)


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _started(module: str) -> subprocess.Popen[bytes]:
    paths = os.pathsep.join(filter(None, [str(PACKAGE), os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        [sys.executable, "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | ONE_THREAD | {"PYTHONPATH": paths},
    )


def _ask(idle: queue.SimpleQueue[subprocess.Popen[bytes]], request: Any) -> Answer:
    process = idle.get()
    try:
        _send(process.stdin, _packed(request))
        said, content = json.loads(_received(process.stdout)), _received(process.stdout)
    except (OSError, EOFError):
        raise OutsideError(
            f"a worker process ended before its work was done (code {process.wait()}), as when memory runs out.\n"
            "  Start again, and it goes on where it stopped; workers=1 takes the least memory."
        ) from None
    finally:
        idle.put(process)
    if "error" in said:
        raise UserError(said["error"])
    return said["answer"], content


def _packed(content: Any) -> bytes:
    return json.dumps(content, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _send(pipe: IO[bytes] | None, content: bytes) -> None:
    assert pipe is not None
    pipe.write(len(content).to_bytes(8, "little"))
    pipe.write(content)
    pipe.flush()


def _received(pipe: IO[bytes] | None) -> bytes:
    assert pipe is not None
    size = pipe.read(8)
    content = pipe.read(int.from_bytes(size, "little")) if len(size) == 8 else b""
    if len(size) < 8 or len(content) < int.from_bytes(size, "little"):
        raise EOFError
    return content
