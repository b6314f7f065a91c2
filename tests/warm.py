"""Commands in processes of their own that start in a moment: forked from one that has imported what they need.

``python("train.py", "name=x")`` is ``subprocess.run([sys.executable, "train.py", "name=x"])`` without the seconds that
importing torch takes. What a fresh interpreter imports, and when, is not to be tested by it.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
WARM = (
    "torch hydra optuna safetensors.torch rich.table jinja2 minigpt.cli.train minigpt.cli.sample minigpt.training.fit "
    "minigpt.generation.sample minigpt.search.run minigpt.testing minigpt.data.preparation minigpt.report.ppa_rows"
)


def python(
    *words: object,
    cwd: Path | str | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = 300,
    together: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run ``python <words>`` (a script, -m or -c) and wait. env: added to this process's. together: errors are part of
    the output.

    Raises subprocess.TimeoutExpired, having killed it, when it takes longer.
    """
    command = [str(word) for word in words]
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        asked = {"words": command, "cwd": str(cwd or os.getcwd()), "env": {**os.environ, **(env or {})}}
        server = _server()
        server.sendall(json.dumps(asked | {"out": str(out), "err": str(out if together else err)}).encode() + b"\n")
        pid = json.loads(_line(server))
        server.settimeout(timeout)
        try:
            status = json.loads(_line(server))
        except TimeoutError:
            os.kill(pid, signal.SIGKILL)
            server.settimeout(None)
            _line(server)
            raise subprocess.TimeoutExpired(command, timeout) from None
        finally:
            server.settimeout(None)
        said = [file.read_text(encoding="utf-8", errors="replace") if file.exists() else "" for file in (out, err)]
        return subprocess.CompletedProcess(command, os.waitstatus_to_exitcode(status), *said)


@functools.cache
def _server() -> socket.socket:
    ours, theirs = socket.socketpair()
    code = f"from tests.warm import serve; serve({theirs.fileno()})"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environment, pass_fds=[theirs.fileno()])
    theirs.close()
    atexit.register(ours.close)
    return ours


def _line(connection: socket.socket) -> bytes:
    """Up to a line's end; empty when the other side has gone."""
    line = b""
    while not line.endswith(b"\n"):
        if not (piece := connection.recv(1)):
            return b""
        line += piece
    return line


def serve(descriptor: int) -> None:
    """Answer requests until the other side has gone: fork, tell the process's number, then how it ended."""
    import importlib

    for name in WARM.split():
        importlib.import_module(name)
    paths = [path for path in sys.path if path not in ("", str(ROOT))]
    connection = socket.socket(fileno=descriptor)
    while request := _line(connection):
        pid = os.fork()
        if not pid:
            connection.close()
            _become(json.loads(request), paths)
        connection.sendall(b"%d\n" % pid)
        connection.sendall(b"%d\n" % os.waitpid(pid, 0)[1])


def _become(asked: dict, paths: list[str]) -> None:
    """Be the interpreter that was asked for, to its end."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, file, mode in (
        (0, "/dev/null", os.O_RDONLY),
        (1, asked["out"], os.O_WRONLY),
        (2, asked["err"], os.O_WRONLY),
    ):
        opened = os.open(file, mode | os.O_CREAT)
        os.dup2(opened, number)
        os.close(opened)
    os.environ.clear()
    os.environ.update(asked["env"])
    os.chdir(asked["cwd"])
    added = [path for path in asked["env"].get("PYTHONPATH", "").split(os.pathsep) if path]
    code = 0
    try:
        _run(asked["words"], [*added, *paths])
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _run(words: list[str], paths: list[str]) -> None:
    what, *rest = words
    sys.path[:] = ["" if what in ("-m", "-c") else str(Path(what).resolve().parent), *paths]
    if what == "-c":
        sys.argv = ["-c", *rest[1:]]
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
    elif what == "-m":
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = words
        runpy.run_path(what, run_name="__main__")
