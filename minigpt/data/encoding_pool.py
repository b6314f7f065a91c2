"""Encoding in several processes: batches go out to whoever is free, what comes back keeps their order.

A worker is this file run as a module. It is told the tokenizer once, then gets texts and gives tokens over its pipes;
it ends when they close, so none outlives the process that started it.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from minigpt.data import tokenizers
from minigpt.data.encoding import Batch, Encoded, Encoder
from minigpt.data.tokenizers import Tokenizer
from minigpt.errors import OutsideError, UserError

ONE_THREAD = {"TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
PACKAGE = Path(__file__).resolve().parents[2]


def encoded(batches: Iterable[Batch], tokenizer: Tokenizer, dtype: str, ended: bool, workers: int) -> Iterator[Encoded]:
    """The batches as tokens, in their order. workers: processes; 1 is this one.

    Raises UserError for text the vocabulary cannot express, and when a worker is killed.
    """
    if workers == 1:
        yield from map(Encoder(tokenizer, dtype, ended), batches)
        return
    setup = json.dumps({"tokenizer": tokenizer.to_json(), "dtype": dtype, "ended": ended}).encode()
    idle: queue.SimpleQueue[subprocess.Popen[bytes]] = queue.SimpleQueue()
    processes: list[subprocess.Popen[bytes]] = []
    threads = ThreadPoolExecutor(workers)
    try:
        for _ in range(workers):
            processes.append(_started())
        for process in processes:
            with suppress(OSError):  # one that has ended is found out when it is asked
                _send(process.stdin, setup)
            idle.put(process)
        waiting: deque[Future[Encoded]] = deque()
        for batch in batches:
            waiting.append(threads.submit(_ask, idle, batch))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with suppress(OSError):
                    pipe.close()  # type: ignore[union-attr]


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _started() -> subprocess.Popen[bytes]:
    paths = os.pathsep.join(filter(None, [str(PACKAGE), os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        [sys.executable, "-m", "minigpt.data.encoding_pool"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | ONE_THREAD | {"PYTHONPATH": paths},
    )


def _ask(idle: queue.SimpleQueue[subprocess.Popen[bytes]], batch: Batch) -> Encoded:
    process = idle.get()
    try:
        _send(process.stdin, _packed([batch.split, batch.texts, batch.ends, batch.origins]))
        said, tokens = json.loads(_received(process.stdout)), _received(process.stdout)
    except (OSError, EOFError):
        raise OutsideError(
            f"a worker process ended before its work was done (code {process.wait()}), as when memory runs out.\n"
            "  Start again, and it goes on where it stopped; workers=1 takes the least memory."
        ) from None
    finally:
        idle.put(process)
    if "error" in said:
        raise UserError(said["error"])
    return Encoded(batch.split, tokens, said["lengths"], batch.ends, said["text_bytes"])


def _serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    """The life of a worker."""
    setup = json.loads(_received(requests))
    encode = Encoder(tokenizers.from_json(setup["tokenizer"]), setup["dtype"], setup["ended"])
    while True:
        split, texts, ends, origins = json.loads(_received(requests))
        said: dict[str, Any] = {}
        tokens = b""
        try:
            found = encode(Batch(split, texts, ends, origins))
            said, tokens = {"lengths": found.lengths, "text_bytes": found.text_bytes}, found.tokens
        except UserError as error:
            said = {"error": str(error)}
        _send(answers, _packed(said))
        _send(answers, tokens)


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


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started this one, and ends both
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    with suppress(EOFError, BrokenPipeError):
        _serve(sys.stdin.buffer, answers)
