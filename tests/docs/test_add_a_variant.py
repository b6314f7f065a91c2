"""docs/add_a_variant.md works as it is written: its file is saved, its commands are run."""

from __future__ import annotations

import json
import os
import re
import shlex
from pathlib import Path

from minigpt.training.record import read_run
from tests.warm import python

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "add_a_variant.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


def run(command: str, folder: Path, *more: str) -> str:
    words = shlex.split(command)
    assert words[0] == "python"
    script = [str(ROOT / words[1])] if words[1].endswith(".py") else words[1:2]
    env = {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}
    done = python(*script, *words[2:], *more, cwd=folder, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_page_s_norm_trains_and_is_proven(tmp_path):
    (source,) = blocks("python")
    (tmp_path / "my_norms.py").write_text(source)
    train, prove = blocks("bash")
    run(train.strip(), tmp_path)
    record = read_run(tmp_path / "out" / "my_prmsnorm")
    assert record.status == "completed"
    spec = json.loads((tmp_path / "out" / "my_prmsnorm" / "model.json").read_text())
    assert spec["default"]["norm"] == {"name": "my_prmsnorm", "p": 0.25, "eps": 1e-6}
    assert re.search(r"1 variants hold all \d\d contracts", run(prove.strip(), tmp_path))
