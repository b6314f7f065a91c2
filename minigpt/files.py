"""Files as the outside world lets us have them: written whole or not at all, read within limits, held by one process.

Whatever the system refuses comes out as a UserError of one line that says what to do; a full disk as a DiskFullError,
which callers may take for a reason to try again later. The ``way_out`` of a message starts with its space or newline.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import secrets
import shutil
import socket
import stat
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from minigpt.errors import OutsideError, UserError

try:
    import fcntl
except ImportError:  # Windows: nobody is kept out there
    fcntl = None  # type: ignore[assignment]

LARGEST_TEXT = 64 << 20
"""Bytes of the largest text that is read whole; a tokenizer of 100,000 words takes some 5 MB."""
NUMBER_DIGITS = 24
"""Digits of the longest whole number in a JSON file; nothing a machine counts has more."""

_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_FULL = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))


class DiskFullError(OutsideError):
    """There is no room left to write, on the disk, in a quota or under a limit on file sizes."""


@contextlib.contextmanager
def plainly(path: Path | str, doing: str = "written", way_out: str = "") -> Iterator[None]:
    """Context manager: an OSError of the block becomes a UserError about ``path``, which could not be ``doing``."""
    try:
        yield
    except OSError as error:
        raise explained(error, path, doing, way_out) from None


def explained(error: OSError, path: Path | str, doing: str = "written", way_out: str = "") -> UserError:
    """What the system refused, in one line. doing: what was tried, such as "written"."""
    reason = error.strerror or str(error) or type(error).__name__
    if is_disk_full(error):
        return DiskFullError(f"{path}: disk full ({reason}).{way_out or ' Make room and start again'}")
    if error.errno == errno.ELOOP and _NO_LINK:
        return UserError(f"{path}: is a link, which could lead anywhere; expected a file of its own.{way_out}")
    if error.errno == errno.EROFS:
        return UserError(f"{path}: could not be {doing}, the file system is read-only.{way_out}")
    if error.errno in (errno.EACCES, errno.EPERM):
        return UserError(f"{path}: could not be {doing}, permission is missing.{way_out}")
    return UserError(f"{path}: could not be {doing} ({reason}).{way_out}")


def is_disk_full(error: BaseException | None) -> bool:
    """Whether an exception, or what led to it, says that there is no room to write; libraries put it into words."""
    while error is not None:
        words = str(error)
        if isinstance(error, DiskFullError) or (isinstance(error, OSError) and error.errno in _FULL):
            return True
        if any(f"os error {number}" in words or os.strerror(number) in words for number in _FULL):
            return True
        error = error.__cause__ or error.__context__
    return False


@contextlib.contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """Context manager: a path beside ``file`` to write to, which takes its place at the end of the block.

    No reader and no crash ever sees half of it. When the block raises, the file stays as it was and nothing is left.
    """
    temporary = file.with_name(f".{file.name}.{secrets.token_hex(4)}.new")
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, file)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(file: Path, text: str) -> None:
    """Replace ``file`` whole or not at all. Raises UserError when the system refuses."""
    with plainly(file), replacing(file) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(file: Path, content: Any) -> None:
    """Replace ``file`` by JSON, whole or not at all. Raises UserError when the system refuses."""
    write_text(file, json.dumps(content, indent=1) + "\n")


def overwrite_text(file: Path, text: str) -> None:
    """Put ``text`` over what a file holds: for a disk with no room for a second file. Not whole if the process ends."""
    with plainly(file), os.fdopen(_open_plain(file, os.O_RDWR | _NO_LINK), "r+b") as stream:
        stream.write(text.encode())
        stream.truncate()


def is_temporary(name: str) -> bool:
    """Whether a file of this name is what :func:`replacing` writes to, and a killed writer leaves."""
    return name.startswith(".") and name.endswith(".new")


def clear_temporary(folder: Path) -> None:
    """Remove what killed writers left in ``folder``; only for whoever has it to themselves."""
    for left in folder.iterdir():
        if is_temporary(left.name) and (left.is_file() or left.is_symlink()):
            left.unlink(missing_ok=True)


def replace_folder(folder: Path, fill: Callable[[Path], None]) -> None:
    """Replace ``folder`` by one that ``fill`` writes, given its path; whole or not at all.

    The new folder is made as ``.<name>.new``; then the old one steps aside to ``.<name>.old`` and the new one takes
    its name: whatever moment a crash picks, the folder of that name or the one set aside is complete. When ``fill``
    raises, the old folder stays and nothing is left. Every file gets the mode that the umask allows.
    """
    settle_folder(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    new, old = beside(folder, "new"), beside(folder, "old")
    new.mkdir()
    try:
        fill(new)
        mode = new.stat().st_mode & 0o666
        for file in sorted(new.iterdir()):
            os.chmod(file, mode)  # some writers make files that only their owner can read
            sync(file)
        sync(new)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    if folder.exists():
        os.rename(folder, old)
    os.rename(new, folder)
    sync(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def settle_folder(folder: Path) -> None:
    """Bring a folder that a crash left half replaced back to one complete folder, and nothing beside it."""
    new, old = beside(folder, "new"), beside(folder, "old")
    if old.exists() and not folder.exists():
        os.rename(old, folder)
    for stale in (new, old):
        if stale.exists():
            shutil.rmtree(stale)


def replace_files(folder: Path, names: Iterable[str], fill: Callable[[Path], None], voucher: str) -> None:
    """Replace ``names`` in ``folder``, which keeps its other files, by what ``fill`` writes into a folder it is given.

    voucher: the one of ``names`` without which readers take none of them; it goes first and comes last. Only for
    whoever has ``folder`` to themselves: what a killed predecessor left is removed.
    """
    for left in folder.glob(".making-*"):
        shutil.rmtree(left, ignore_errors=True)
    temporary = folder / f".making-{secrets.token_hex(4)}"
    temporary.mkdir()
    try:
        fill(temporary)
        for name in names:
            sync(temporary / name)
        (folder / voucher).unlink(missing_ok=True)
        for name in sorted(names, key=lambda name: name == voucher):
            os.replace(temporary / name, folder / name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def beside(folder: Path, kind: str) -> Path:
    """``.<name>.<kind>`` in the same place: where a folder steps aside, or what is about it lies."""
    return folder.parent / f".{folder.name}.{kind}"


def sync(path: Path) -> None:
    """Have the system write a file, or a folder's list of names, to the disk now."""
    if path.is_dir() and os.name == "nt":
        return  # folders cannot be opened there
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def open_own(file: Path) -> BinaryIO:
    """Open a file of ours to read it and append to it, made when it is missing.

    Raises UserError for a link or anything else that is no plain file: writing would reach outside.
    """
    with plainly(file):
        return os.fdopen(_open_plain(file, os.O_RDWR | os.O_CREAT | os.O_APPEND | _NO_LINK), "ab")


def open_to_read(file: Path, *, links: bool = True, way_out: str = "") -> BinaryIO:
    """Open a file for reading. links: whether a link is followed.

    Raises UserError for one that is missing or no plain file; a pipe does not make it wait.
    """
    with plainly(file, "read", way_out):
        return os.fdopen(_open_plain(file, os.O_RDONLY | (0 if links else _NO_LINK)), "rb")


def read_text(
    file: Path, *, limit: int = LARGEST_TEXT, links: bool = True, errors: str = "strict", way_out: str = ""
) -> str:
    """The UTF-8 text of a file. limit: bytes of the largest that is read. links: whether a link is followed. errors:
    what becomes of bytes that are no UTF-8.

    Raises UserError for a file that is missing, larger, no plain file or no UTF-8; a pipe does not make it wait.
    """
    with open_to_read(file, links=links, way_out=way_out) as stream, plainly(file, "read", way_out):
        content = stream.read(limit + 1)
    if len(content) > limit:
        raise UserError(f"{file}: larger than the {limit >> 20} MiB that such a file can have.{way_out}")
    try:
        return content.decode("utf-8", errors)
    except UnicodeDecodeError as error:
        raise UserError(
            f"{file}: not UTF-8 text: byte {content[error.start]:#04x} at {error.start}.{way_out}"
        ) from None


def read_json(file: Path, *, limit: int = LARGEST_TEXT, links: bool = True, way_out: str = "") -> Any:
    """What a JSON file holds. Raises UserError for one that is torn, nested too deep, or holds endless numbers."""
    text = read_text(file, limit=limit, links=links, way_out=way_out)
    try:
        return json.loads(text, parse_int=_whole_number)
    except (ValueError, RecursionError) as error:
        what = "nested too deep" if isinstance(error, RecursionError) else error
        raise UserError(f"{file}: not JSON ({what}).{way_out}") from None


def sha256_of(file: Path) -> str:
    """sha256 of a file's content, in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_of_text(text: str) -> str:
    """sha256 of a text as UTF-8, in hexadecimal."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@dataclasses.dataclass(frozen=True)
class Holder:
    """Who has a lock. pid: of the process, None when its file does not say."""

    pid: int | None
    words: str

    def __str__(self) -> str:
        return self.words


class Lock:
    """One process at a time: ``with Lock(folder / ".lock", busy)``.

    busy: called when another process has it, with who that is; what it raises ends the attempt, when it returns, this
    process waits. patience: seconds it may take before ``busy`` hears of it. The file says who has the lock and goes
    with it; the system lets go of it when the process ends, however it ends. Where files cannot be locked (Windows,
    some network file systems), nobody is kept out.
    """

    def __init__(self, file: Path, busy: Callable[[Holder], None], patience: float = 0.0):
        self.file, self.busy, self.patience = file, busy, patience
        self._handle: int | None = None

    def __enter__(self) -> Lock:
        while fcntl is not None and self._handle is None:
            with plainly(self.file):
                handle = _open_plain(self.file, os.O_RDWR | os.O_CREAT | _NO_LINK)
            try:
                if not self._take(handle):
                    break
                if _is_at(handle, self.file):  # else its former holder has removed it while we waited
                    self._handle = handle
                    self._sign(handle)
            finally:
                if self._handle is None:
                    os.close(handle)
        return self

    def __exit__(self, *_: object) -> None:
        if self._handle is not None:
            with contextlib.suppress(OSError):
                self.file.unlink()
            os.close(self._handle)
            self._handle = None

    def _take(self, handle: int) -> bool:
        """Lock an open file, waiting if need be; False where files cannot be locked."""
        deadline = time.monotonic() + self.patience
        try:
            while not _locked(handle):
                if time.monotonic() >= deadline:
                    self.busy(_holder(handle))
                    fcntl.flock(handle, fcntl.LOCK_EX)
                    break
                time.sleep(0.05)
        except OSError:
            return False
        return True

    def _sign(self, handle: int) -> None:
        said = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.time(), "command": _command()}
        with contextlib.suppress(OSError):  # on a full disk the lock holds, namelessly
            os.ftruncate(handle, 0)
            os.pwrite(handle, json.dumps(said).encode(), 0)


def holder_of(file: Path) -> Holder | None:
    """Who has the lock of ``file`` right now; None when nobody has, or it cannot be known."""
    try:
        handle = _open_plain(file, os.O_RDWR | _NO_LINK)
    except OSError:
        return None
    try:
        return None if fcntl is None or _locked(handle) else _holder(handle)
    except OSError:
        return None
    finally:
        os.close(handle)


def _command() -> str:
    """The command of this process as it was typed; ``sys.argv`` may have been put into another program's words."""
    program, *words = sys.orig_argv
    if words and Path(words[0]).stem == "minigpt":  # an installed command is run by an interpreter nobody typed
        return " ".join(["minigpt", *words[1:]])
    return " ".join([Path(program).name, *words])


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(handle: int) -> Holder:
    """Who has a lock, from what its file says."""
    try:
        said = json.loads(os.pread(handle, 1 << 16, 0))
        since = time.strftime("%H:%M:%S", time.localtime(float(said["since"])))
        where = "" if said["host"] == socket.gethostname() else f" on {said['host']}"
        pid, command = int(said["pid"]), str(said["command"])[:120]
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return Holder(None, "another process")
    words = f"process {pid}{where} ({command}, since {since})"
    return Holder(pid, "".join(c if c.isprintable() else "?" for c in words))


def _is_at(handle: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), file.stat(follow_symlinks=False))
    except OSError:
        return False


def _open_plain(file: Path, flags: int) -> int:
    """Open a regular file, and raise OSError for a folder, a pipe or a device, without waiting for a pipe's writer."""
    handle = os.open(file, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0), 0o666)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "it is no plain file")
    return handle


def _whole_number(digits: str) -> int:
    if len(digits) > NUMBER_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)
