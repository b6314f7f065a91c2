"""The catalogue: what variants cost and reached, as pages made from the registry."""

from __future__ import annotations

import json
import re

import pytest

from minigpt.errors import UserError
from minigpt.hardware import spec as machines
from minigpt.report import catalogue_figures, catalogue_pages
from minigpt.report.catalogue_pages import CatalogueConfig, write_pages
from minigpt.schema import typed
from minigpt.training.record import RunRecord

LOSSES = {
    "softmax": {"0": 2.0, "1": 2.1, "2": 2.2},
    "consmax": {"0": 2.3, "1": 2.39, "2": 2.51},
    "relumax": {"0": 2.01, "1": 2.08, "2": 2.22},
    "softermax": {"0": 1.9, "1": None, "2": None},
}


def study(folder, losses, axis="softmax", **more):
    for choice, found in losses.items():
        for seed, loss in found.items():
            place = folder / f"{choice}{seed}"
            place.mkdir(parents=True)
            RunRecord(
                name=place.name, status="diverged" if loss is None else "completed", config_hash=place.name,
                seed=int(seed), overrides={axis: choice, "seed": int(seed)} | more, val_loss=loss, steps=300,
                tokens_seen=1000, wall_seconds=4.0, dataset="pydocs", folder=place,
            ).write()  # fmt: skip
    return folder


def test_differences_are_paired_by_seed_with_students_interval():
    from scipy.stats import ttest_rel

    found = catalogue_figures.compared("softmax", "", "", LOSSES)
    rows = {row.choice: row for row in found.rows}
    assert [row.choice for row in found.rows] == ["softermax", "softmax", "relumax", "consmax"]
    for choice in ("consmax", "relumax"):
        ours, theirs = (list(LOSSES[name].values()) for name in (choice, "softmax"))
        interval = ttest_rel(ours, theirs).confidence_interval(0.95)
        mean, half = rows[choice].difference
        assert (mean - half, mean + half) == pytest.approx((interval.low, interval.high))
    assert rows["consmax"].verdict == "worse"
    assert rows["relumax"].verdict == "tie"
    assert rows["softermax"].difference is None  # one pair says nothing of its spread


def test_a_study_is_kept_and_shown_with_what_did_not_end(tmp_path):
    config = {"out": str(tmp_path / "pages"), "axes": ["softmax"], "results": [str(study(tmp_path / "s", LOSSES))]}
    (file,) = write_pages(typed(CatalogueConfig, config))
    text = file.read_text()
    assert "`python train.py explorations=s`: 300 steps, 1,000 tokens of pydocs, 12 runs of about 4 s each" in text
    assert "seed 1, 2 did not end" in text
    assert "### Which one to put in silicon" in text
    assert re.search(r"`relumax`: loss \+0.2033 from the best, 0\.\d+ uJ a token, no unit of its own needed", text)
    kept = json.loads((tmp_path / "pages" / "results" / "softmax.json").read_text())
    assert kept["losses"] == LOSSES


def test_a_study_over_something_else_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"varies optimizer\.lr, softmax"):
        catalogue_figures.store(study(tmp_path / "a", LOSSES, **{"optimizer.lr": 0.1}), tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        catalogue_figures.store(tmp_path / "none", tmp_path)


def test_figures_are_those_of_the_model():
    gpt2 = catalogue_figures.figures("softmax", "consmax", machines.load("edge_16nm"))
    from minigpt.cost import Work
    from minigpt.model import GPT
    from minigpt.testing import make_spec

    model = GPT.on_meta(make_spec(softmax="consmax", **catalogue_figures.GPT2))
    assert gpt2.parameters == sum(p.numel() for p in model.parameters())
    assert gpt2.decode_flops == model.cost(Work(1, 1, 1024)).flops
    assert gpt2.unit_energy_pj > 0
    assert 0 < gpt2.own_uj < 1000 * gpt2.energy_mj


def test_every_page_names_every_variant():
    from minigpt import registry

    text = catalogue_pages.index()
    for axis in registry.axes():
        assert f"[{axis}]({axis}.md)" in text
        assert all(re.search(rf"`{name}`", text) for name in registry.names(axis))
