"""Saving: whatever moment a crash picks, a whole checkpoint is left."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from minigpt.files import DiskFullError
from minigpt.model import GPT
from minigpt.model.checkpoint import load_checkpoint
from minigpt.testing import make_spec
from tests.model.checkpoints import logits, save


@pytest.fixture
def model() -> GPT:
    return GPT.create(make_spec()).eval()


def test_a_crash_at_any_system_call_leaves_the_old_checkpoint_or_the_new_one(tmp_path):
    """Every rename, sync, removal, folder and file a save makes is, in turn, the last thing its process does."""
    old, new = GPT.create(make_spec(n_layer=1, seed=1)), GPT.create(make_spec(n_layer=1, seed=2))
    seen, point, finished = [], 0, False
    while not finished:
        folder = save(tmp_path / str(point) / "last", old, meta={"step": 1})
        finished = save_and_die_at(point, folder, new)
        loaded = load_checkpoint(folder)
        expected = {1: old, 2: new}[loaded.meta["step"]]
        assert torch.equal(logits(loaded.model), logits(expected.eval()))
        seen.append(loaded.meta["step"])
        save(folder, old, meta={"step": 3})  # and the next save clears up
        assert [p.name for p in folder.parent.iterdir()] == ["last"]
        assert load_checkpoint(folder).meta["step"] == 3
        point += 1
    assert seen == sorted(seen)  # once the new one stands, it stays
    assert set(seen) == {1, 2}
    assert len(seen) > 15


def save_and_die_at(point: int, folder: Path, model: GPT) -> bool:
    """Save in a forked process that ends before its system call number ``point``; True when it had fewer."""
    child = os.fork()
    if child == 0:
        left = [point]

        def dying(call):
            def wrapper(*args, **kwargs):
                if left[0] == 0:
                    os._exit(1)
                left[0] -= 1
                return call(*args, **kwargs)

            return wrapper

        for owner, name in [
            (os, "rename"),
            (os, "fsync"),
            (os, "open"),
            (shutil, "rmtree"),
            (os, "unlink"),
            (os, "rmdir"),
        ]:
            setattr(owner, name, dying(getattr(owner, name)))
        for name in ("mkdir", "open", "write_text", "stat"):
            setattr(Path, name, dying(getattr(Path, name)))
        save(folder, model, meta={"step": 2})
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) == 0


def test_a_process_killed_while_it_writes_leaves_the_old_checkpoint(tmp_path, model):
    folder = save(tmp_path / "last", model, meta={"step": 1})
    script = (
        "import time; from tests.model.test_checkpoint_crashes import *;"
        f"save(Path({str(folder)!r}), GPT.create(make_spec(seed=3)), meta={{'step': 2}},"
        "extra={'state.pt': lambda file: (file.write_bytes(b'half'), time.sleep(60))})"
    )
    child = subprocess.Popen([sys.executable, "-c", script], cwd=Path(__file__).parents[2])
    deadline = time.monotonic() + 240
    while not (tmp_path / ".last.new" / "state.pt").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert load_checkpoint(folder).meta["step"] == 1
    save(folder, model, meta={"step": 4})
    assert [p.name for p in tmp_path.iterdir()] == ["last"]


def test_a_writer_that_fails_leaves_the_old_checkpoint_and_no_trace(tmp_path, model):
    folder = save(tmp_path / "last", model)

    def disk_full(file: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(DiskFullError, match="No space"):
        save(folder, model, meta={"step": 9}, extra={"state.pt": disk_full})
    assert load_checkpoint(folder).meta["step"] == 3
    assert [p.name for p in tmp_path.iterdir()] == ["last"]
