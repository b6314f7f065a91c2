"""docs/api.md: what it lists is what there is, and its two columns mean the same."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

import minigpt

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
SAID = PAGE[PAGE.index("## How a configuration") : PAGE.index("## What there is")]
ROWS = [re.findall(r"`([^`]+)`", row)[:2] for row in SAID.splitlines() if row.startswith("| `")]


def test_every_function_is_listed_and_no_other():
    listed = re.findall(r"^\| `(\w+)\(", PAGE, flags=re.MULTILINE)
    assert {*listed, "Model", "UserError"} == set(minigpt.__all__)


@pytest.mark.parametrize(("typed", "called"), [row for row in ROWS if not row[0].startswith("-m")])
def test_both_columns_are_one_configuration(typed, called):
    here = eval(f"minigpt.configure({called})", {"minigpt": minigpt})
    assert here == minigpt.configure(*shlex.split(typed))


def test_the_opening_example_composes():
    call = re.search(r"minigpt\.train\((.*?)\)  +#", PAGE)
    assert eval(f"minigpt.configure({call[1]})", {"minigpt": minigpt}).training.max_steps == 200
