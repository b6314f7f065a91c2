"""Every command in the README is one that works: training commands compose, files and targets exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.warm import python

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    line.split("  #")[0].strip()
    for block in re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL)
    for line in block.splitlines()
    if line.strip()
]
TRAINING = [c for c in COMMANDS if c.startswith("python train.py") and "--help" not in c]


def test_there_are_commands_to_check():
    assert len(TRAINING) >= 4
    assert len(COMMANDS) >= 10


@pytest.mark.parametrize("command", TRAINING)
def test_training_commands_compose(command, tmp_path):
    words = [word for word in shlex.split(command)[2:] if word != "-m"]
    words = [re.sub(r"=([^\[{,]*),.*", r"=\1", word) for word in words]  # of a sweep, its first point
    done = python(ROOT / "train.py", "--cfg", "job", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", [c for c in COMMANDS if c not in TRAINING])
def test_other_commands_name_what_exists(command):
    words = shlex.split(command)
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    elif words[1] == "-m":
        module = ROOT / words[2].replace(".", "/")
        assert (module / "__main__.py").is_file() or module.with_suffix(".py").is_file()
    else:
        assert (ROOT / words[1]).is_file()


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).is_file(), target
