"""docs/catalogue is what the registry says now, and every shipped comparison holds every name of its axis."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from minigpt import presets, registry
from minigpt.report.catalogue_pages import index, page

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "catalogue"
COMPARED = ("softmax", "attention", "norm", "activation", "position")


@pytest.mark.parametrize("axis", registry.axes())
def test_a_page_is_what_would_be_made_now(axis):
    assert (PAGES / f"{axis}.md").read_text(encoding="utf-8") == page(axis, "edge_16nm", PAGES), "stale: make docs"


def test_the_index_is_what_would_be_made_now():
    assert (PAGES / "README.md").read_text(encoding="utf-8") == index(), "stale: make docs"


def test_no_page_is_left_of_an_axis_that_is_gone():
    assert {file.stem for file in PAGES.glob("*.md")} == {*registry.axes(), "README"}


@pytest.mark.parametrize("axis", COMPARED)
def test_a_comparison_holds_every_name_of_its_axis_and_is_on_its_page(axis):
    params = yaml.safe_load((ROOT / "explorations" / f"{axis}.yaml").read_text())["hydra"]["sweeper"]["params"]
    words = [word for word in params[axis] if isinstance(word, str)]
    named = {presets.resolve(axis, word)[axis]["name"] for word in words}
    named |= {word["name"] for word in params[axis] if not isinstance(word, str)}
    assert named == set(registry.names(axis))
    assert params["seed"] == [0, 1, 2]
    assert f"`python train.py explorations={axis}`" in (PAGES / f"{axis}.md").read_text(encoding="utf-8")
