"""Files on the disks of others: full, read-only, linked, torn, and held by another process."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from minigpt import files
from minigpt.errors import UserError
from minigpt.files import DiskFullError, Lock

ROOT = Path(__file__).parent.parent


@contextlib.contextmanager
def no_room_beyond(size: int):
    """No file of this process may grow beyond ``size`` bytes: what a quota or a full disk looks like from inside."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    file = tmp_path / "a.json"
    files.write_json(file, {"n": 1})

    def fail_halfway() -> None:
        with files.replacing(file) as new:
            new.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_halfway()
    assert files.read_json(file) == {"n": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_full_disk_is_said_and_leaves_what_was(make_disk):
    file = make_disk("64k") / "a.txt"
    files.write_text(file, "short")
    with pytest.raises(DiskFullError, match=r"a\.txt: disk full \(No space left on device\)\. Make room"):
        files.write_text(file, "x" * 100_000)
    assert [p.name for p in file.parent.iterdir()] == ["a.txt"]
    assert file.read_text() == "short"


def test_a_limit_on_file_sizes_is_a_full_disk(tmp_path):
    with no_room_beyond(1000), pytest.raises(DiskFullError, match="disk full"):
        files.write_text(tmp_path / "a.txt", "x" * 2000)
    assert list(tmp_path.iterdir()) == []


def test_words_of_libraries_are_understood_as_a_full_disk():
    assert files.is_disk_full(RuntimeError("I/O error: No space left on device (os error 28)"))
    assert not files.is_disk_full(RuntimeError("unexpected pos 576 vs 534"))
    in_context = RuntimeError("unexpected pos 576 vs 534")
    in_context.__context__ = OSError(28, "No space left on device")
    assert files.is_disk_full(in_context)


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    for place in (tmp_path / "file" / "a.json", Path("/proc/a.json"), tmp_path / ("x" * 300)):
        with pytest.raises(UserError, match=r"could not be written") as error:
            files.write_json(place, {})
        assert "\n" not in str(error.value)


def test_a_read_only_file_system_is_named(make_disk):
    with pytest.raises(UserError, match=r"a: could not be written, the file system is read-only\.$"):
        files.write_text(make_disk("64k", "ro") / "a", "")


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_files_have_the_mode_that_the_umask_allows(tmp_path, umask):
    def fill(new: Path) -> None:
        os.close(os.open(new / "private", os.O_CREAT | os.O_WRONLY, 0o600))

    before = os.umask(umask)
    try:
        files.replace_folder(tmp_path / "folder", fill)
        files.write_text(tmp_path / "text", "")
    finally:
        os.umask(before)
    for file in (tmp_path / "folder" / "private", tmp_path / "text"):
        assert file.stat().st_mode & 0o777 == 0o666 & ~umask


@pytest.mark.parametrize("kind", ["link", "dangling", "folder", "pipe"])
def test_only_plain_files_are_opened_for_writing(tmp_path, kind):
    file, outside = tmp_path / "metrics.jsonl", tmp_path / "outside"
    if kind == "folder":
        file.mkdir()
    elif kind == "pipe":
        os.mkfifo(file)
    else:
        file.symlink_to(outside)
    if kind == "link":
        outside.write_text("precious")
    with pytest.raises(UserError, match=r"metrics\.jsonl: (is a link|could not be written)"):
        files.open_own(file).write(b"x")
    assert outside.exists() == (kind == "link")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not JSON"),
        (b'{"a": 1', "not JSON"),
        (b'{"a": "\xe9"}', "not UTF-8 text: byte 0xe9 at 7"),
        (b"[" * 100_000, "nested too deep"),
        (b'{"a": 1' + b"0" * 400 + b"}", "a number of 401 digits"),
        (b"1" * 10_000, "digits"),
        (b" " * 3000, "larger than"),
    ],
)
def test_json_that_cannot_be_read_is_refused_at_once(tmp_path, content, message):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(UserError, match=f"a.json: .*{message}"):
        files.read_json(tmp_path / "a.json", limit=2048 if message == "larger than" else 1 << 20)


def test_a_pipe_in_the_place_of_a_file_does_not_wait_for_its_writer(tmp_path):
    os.mkfifo(tmp_path / "a.json")
    with pytest.raises(UserError, match="no plain file"):
        files.read_json(tmp_path / "a.json")


def test_files_of_a_folder_that_keeps_others_come_with_their_voucher_last(tmp_path):
    (tmp_path / "recipe.py").write_text("kept")
    (tmp_path / ".making-dead").mkdir()
    for text in ("one", "two"):
        files.replace_files(
            tmp_path, ("meta", "data"), lambda new, t=text: [(new / n).write_text(t) for n in ("meta", "data")], "meta"
        )
        assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"recipe.py": "kept", "meta": text, "data": text}
    with pytest.raises(ZeroDivisionError):
        files.replace_files(tmp_path, ("meta",), lambda new: 1 / 0, "meta")
    assert (tmp_path / "meta").read_text() == "two"


def refusing(holder: files.Holder) -> None:
    raise UserError(f"held by {holder}")


HOLD = """
import sys, time
from pathlib import Path
from minigpt.files import Lock
with Lock(Path(sys.argv[1]), print):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def held(tmp_path):
    """A lock file, and the process that holds it."""
    file = tmp_path / "lock"
    process = subprocess.Popen([sys.executable, "-c", HOLD, file], stdout=subprocess.PIPE, cwd=ROOT)
    assert process.stdout.readline() == b"held\n"
    yield file, process
    process.kill()
    process.wait()


def test_whoever_comes_second_hears_who_was_first(held):
    file, process = held
    with pytest.raises(UserError, match=rf"held by process {process.pid} \(python\S* -c .*, since \d\d:\d\d:\d\d\)"):
        Lock(file, refusing).__enter__()


def test_a_killed_holder_lets_go(held):
    file, process = held
    process.send_signal(signal.SIGKILL)
    process.wait()
    with Lock(file, refusing):
        assert file.exists()
    assert not file.exists()


def test_one_may_wait_for_the_holder_and_knows_whom_one_waits_for(held):
    file, process = held
    waited = []

    def busy(holder: files.Holder) -> None:
        waited.append(str(holder))
        process.terminate()

    with Lock(file, busy), pytest.raises(UserError, match=f"process {os.getpid()}"):
        Lock(file, refusing).__enter__()
    assert str(process.pid) in waited[0]


def test_no_two_hold_it_while_many_come_and_go(tmp_path):
    """Each appends twice while it has the lock: lines of two would mix if it did not keep them apart."""
    script = (
        "import sys; from pathlib import Path; from minigpt.files import Lock\n"
        "for i in range(40):\n"
        "    with Lock(Path('lock'), lambda holder: None):\n"
        "        for _ in range(2):\n"
        "            with open('log', 'a') as log: log.write(f'{sys.argv[1]} {i}\\n')\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    started = [subprocess.Popen([sys.executable, "-c", script, n], cwd=tmp_path, env=environment) for n in "abc"]
    assert [process.wait(60) for process in started] == [0, 0, 0]
    lines = (tmp_path / "log").read_text().splitlines()
    assert len(lines) == 240
    assert lines[::2] == lines[1::2]
    assert not (tmp_path / "lock").exists()


def test_what_a_stranger_wrote_into_a_lock_does_not_reach_the_screen(tmp_path):
    file = tmp_path / "lock"
    with Lock(file, refusing):
        file.write_text('{"pid": 1, "host": "h", "since": 1, "command": "\\u001b[2Jboo"}')
        with pytest.raises(UserError) as error:
            Lock(file, refusing).__enter__()
        file.write_text("{torn")
        with pytest.raises(UserError, match="another process"):
            Lock(file, refusing).__enter__()
    assert str(error.value).isprintable()


def test_the_lock_of_a_link_is_refused(tmp_path):
    (tmp_path / "lock").symlink_to(tmp_path / "outside")
    with pytest.raises(UserError, match="is a link"):
        Lock(tmp_path / "lock", refusing).__enter__()
    assert not (tmp_path / "outside").exists()


def test_waiting_can_be_interrupted(held):
    file, _ = held
    command = [sys.executable, "-c", HOLD.replace("print)", "lambda h: print(h, flush=True))"), file]
    waiting = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT)
    assert waiting.stdout.readline().startswith(b"process ")
    time.sleep(0.1)
    waiting.send_signal(signal.SIGINT)
    assert waiting.wait(120) != 0
