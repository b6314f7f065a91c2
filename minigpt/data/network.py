"""Network calls that end: whatever a server, a proxy or a name service does, the answer comes within a limit."""

from __future__ import annotations

import hashlib
import threading
import urllib.request
from collections.abc import Callable
from typing import TypeVar

from minigpt.errors import UserError

T = TypeVar("T")

DOWNLOAD_SECONDS = 60.0  # for a whole file
ANSWER_SECONDS = 8.0  # for a server to answer at all, or to stay silent in between


def within(seconds: float, call: Callable[[], T]) -> T:
    """Return ``call()``, or raise TimeoutError after so many seconds.

    The call runs in a daemon thread: one that never returns (name resolution has no timeout of its own) is left behind
    and does not keep the process alive. What the call raises is raised here.
    """
    results: list[T] = []
    failures: list[BaseException] = []

    def work() -> None:
        try:
            results.append(call())
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if failures:
        raise failures[0]
    if not results:
        raise TimeoutError(f"no answer within {seconds:g} s")
    return results[0]


def download(url: str, way_out: str, sha256: str | None = None) -> bytes:
    """Fetch a file.

    Raises UserError, with the address and ``way_out``, when the server is not reached or stays silent, or when what
    comes is not the file with this ``sha256`` (a log-in page, say).
    """
    try:
        response = within(ANSWER_SECONDS, lambda: urllib.request.urlopen(url, timeout=ANSWER_SECONDS))
        with response:
            content = within(DOWNLOAD_SECONDS, response.read)
    except (OSError, ValueError) as error:  # URLError and TimeoutError are OSErrors; a malformed proxy is a ValueError
        reason = getattr(error, "reason", error)
        raise UserError(f"{url}: could not be downloaded ({reason}).\n  {way_out}") from None
    if sha256 and hashlib.sha256(content).hexdigest() != sha256:
        raise UserError(f"{url}: what was downloaded is not the expected file (sha256 {sha256[:12]}...).\n  {way_out}")
    return content
