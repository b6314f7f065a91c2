"""Warm processes behave as fresh ones: words, folder, environment, output, end."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.warm import ROOT, python

CASES = [
    ("-c", "import os, sys; print(os.getcwd(), sys.argv, os.environ['HERE'])", "a", "b"),
    ("-c", "import sys; print('said', file=sys.stderr); sys.exit(3)"),
    ("-c", "import sys; sys.exit('a sentence')"),
    ("-c", "raise KeyError('gone')"),
    ("-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"),
    ("-m", "minigpt", "components", "sofmax"),
    (str(ROOT / "train.py"), "attention.windw=3"),
    ("mine.py", "x"),
]


@pytest.mark.parametrize("words", CASES, ids=lambda words: words[1][:40])
def test_a_warm_process_is_like_a_fresh_one(tmp_path, words):
    (tmp_path / "mine.py").write_text("import helper, sys\nprint(__name__, sys.argv, helper.__file__)\n")
    (tmp_path / "helper.py").write_text("")
    fresh = subprocess.run(
        [sys.executable, *words], cwd=tmp_path, env=os.environ | {"HERE": "1"}, capture_output=True, text=True
    )
    warm = python(*words, cwd=tmp_path, env={"HERE": "1"})
    assert (warm.returncode, warm.stdout) == (fresh.returncode, fresh.stdout)
    assert warm.stderr.splitlines()[-1:] == fresh.stderr.splitlines()[-1:]


def test_one_that_takes_too_long_is_killed_and_the_next_starts():
    with pytest.raises(subprocess.TimeoutExpired):
        python("-c", "import time; time.sleep(60)", timeout=0.5)
    assert python("-c", "print(1)").stdout == "1\n"


def test_what_one_does_the_next_does_not_see(tmp_path):
    python("-c", "import minigpt, sys; minigpt.changed = 1; sys.path.append('x')")
    assert (
        python("-c", "import minigpt, sys; print(hasattr(minigpt, 'changed'), 'x' in sys.path)").stdout
        == "False False\n"
    )
