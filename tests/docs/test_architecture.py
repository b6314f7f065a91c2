"""docs/architecture.md passes every file once, and none that is not there."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from minigpt import registry

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
WALKS = PAGE[PAGE.index("## Walk 1") : PAGE.index("## What the tests hold")]


def variant_files() -> set[Path]:
    """The files of the registry's variants: one of each axis stands for all."""
    modules = {registry.entry(axis, name).module for axis in registry.axes() for name in registry.names(axis)}
    return {ROOT.joinpath(*module.split(".")).with_suffix(".py") for module in modules}


def test_every_file_named_exists():
    for name in re.findall(r"`([\w/]+\.(?:py|yaml))`", PAGE):
        assert (ROOT / name).is_file() or list(ROOT.glob(f"minigpt/**/{name}")), name


def test_the_walks_pass_every_file_of_the_house_exactly_once():
    passed = Counter(re.findall(r"`([\w/]+\.py)`", WALKS))
    house = {*(ROOT / "minigpt").rglob("*.py"), *(ROOT / "analysis").rglob("*.py"), *ROOT.glob("*.py")} - {
        ROOT / "setup.py"
    }
    house -= {f for f in house if f.name in ("__init__.py", "base.py")} | variant_files()
    house |= {ROOT / "data" / "prepare.py", ROOT / "minigpt" / "components" / "base.py"}
    missing = sorted(str(f.relative_to(ROOT)) for f in house if str(f.relative_to(ROOT)) not in passed)
    assert not missing
    assert {name: n for name, n in passed.items() if n > 1} == {}
