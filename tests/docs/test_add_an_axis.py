"""docs/add_an_axis.md works as it is written: its file is saved, its commands are run."""

from __future__ import annotations

import json
import re
from pathlib import Path

from minigpt.training.record import find_runs, read_run
from tests.docs.test_add_a_variant import run

PAGE = (Path(__file__).parent.parent.parent / "docs" / "add_an_axis.md").read_text(encoding="utf-8")


def test_the_page_s_axis_is_trained_swept_and_priced(tmp_path):
    source, commands = (
        re.search(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL) for language in ("python", "bash")
    )
    (tmp_path / "my_axis.py").write_text(source[1])
    train, sweep, price = commands[1].strip().splitlines()
    run(train, tmp_path)
    assert read_run(tmp_path / "out" / "capped").status == "completed"
    spec = json.loads((tmp_path / "out" / "capped" / "model.json").read_text())
    assert spec["default"]["combine"] == {"name": "capped", "cap": 8.0}
    run(sweep, tmp_path)
    runs = find_runs(tmp_path / "out" / "combine").records
    assert {record.overrides["combine"]: record.status for record in runs} == {
        "product": "completed",
        "capped": "completed",
    }
    run(price, tmp_path)
    rows = json.loads((tmp_path / "out" / "combine" / "ppa" / "report.json").read_text())
    assert "capped" in json.dumps(rows)
