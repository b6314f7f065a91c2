"""docs/add_a_task.md works as it is written: its files are saved, its commands are run."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

from minigpt.training.metrics import read_metrics
from minigpt.training.record import read_run
from tests.warm import python

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "add_a_task.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


def run(folder: Path, *arguments: str) -> str:
    done = python(*arguments, cwd=folder, env={"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_page_s_task_learns_from_its_teacher_and_its_hook_ends_a_run(tmp_path):
    task, script = blocks("python")
    (tmp_path / "my_tasks.py").write_text(task)
    (tmp_path / "watch.py").write_text(script)
    for command in blocks("bash")[0].splitlines():
        _, entry, *words = shlex.split(command)
        run(tmp_path, str(ROOT / entry), *words, "model.d_model=32", "model.n_layer=1", "model.block_size=32")
    student = read_run(tmp_path / "out" / "student")
    assert student.status == "completed"
    assert set(student.figures) == {"distance", "surprise"}
    assert student.figures["distance"] == read_metrics(student.folder)[-2]["distance"]
    assert "completed good enough at step 10" in run(tmp_path, "watch.py")
