"""Curves of runs: what metrics.jsonl has, called by what tells the runs apart, the same in every file."""

from __future__ import annotations

import csv
import html.parser
import json
import math
import re
import sys
import xml.etree.ElementTree
from pathlib import Path

import pytest

from minigpt.cli import console
from minigpt.errors import UserError
from minigpt.report.curves import CurvesConfig, read_curves, smoothed, write_report
from minigpt.training.record import RunRecord

STEPS = 60


def make_run(folder: Path, *, status="completed", lines=None, reason="", **overrides) -> None:
    """A run whose losses fall to 2 + its seed, with a nan, a torn line and lines of other figures on the way."""
    folder.mkdir(parents=True)
    base = 2.0 + overrides.get("seed", 0)
    lines = lines or [
        {"step": i, "tokens": 64 * i, "seconds": i / 10, "train_loss": base + 2 / i + 0.1 * (-1) ** i, "lr": 1e-3}
        for i in range(1, STEPS + 1)
    ] + [{"step": i, "tokens": 64 * i, "seconds": i / 10, "val_loss": base + 1 / i} for i in range(10, STEPS + 1, 10)]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text + '{"step": 99, "train_loss": null}\n["no line"]\n{"step": 100, "tr')
    RunRecord(
        name=folder.name, status=status, config_hash="x", seed=0, overrides=overrides, folder=folder, reason=reason,
        val_loss=base if status == "completed" else None,
    ).write()  # fmt: skip


@pytest.fixture(scope="module")
def sweep(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    for softmax in ("softmax", "consmax"):
        for seed in (0, 1):
            make_run(folder / "deep" / f"{softmax}-{seed}", softmax=softmax, seed=seed)
    wild = [{"step": 1, "tokens": 64, "seconds": 0.1, "train_loss": 1e6}]
    make_run(folder / "wild", status="diverged", lines=wild, softmax="<b>", seed=2, reason="loss is \x1b[31m<i>nan</i>")
    make_run(folder / "empty", status="failed", lines=[{"step": 1}], softmax="none", seed=3)
    (folder / "torn").mkdir()
    (folder / "torn" / "run.json").write_text("{")
    return folder


@pytest.fixture(scope="module")
def written(sweep):
    _, folder = write_report(CurvesConfig(runs=str(sweep)))
    assert folder == sweep / "curves"
    return folder


def test_points_are_those_that_were_measured(sweep):
    report = read_curves(CurvesConfig(runs=str(sweep), x="tokens", figures=["val_loss", "lr"]))
    run = next(run for run in report.runs if run.run == "deep/softmax-1")
    assert run.curves["val_loss"].x == tuple(64.0 * i for i in range(10, STEPS + 1, 10))
    assert (
        run.curves["val_loss"].y == run.curves["val_loss"].smooth == tuple(3 + 1 / i for i in range(10, STEPS + 1, 10))
    )
    assert set(run.curves["lr"].smooth) == {1e-3}


def test_runs_are_called_by_what_tells_them_apart_the_lowest_loss_first(sweep):
    labels = [run.label for run in read_curves(CurvesConfig(runs=str(sweep))).runs]
    assert sorted(labels[:2]) == ["softmax=consmax, seed=0", "softmax=softmax, seed=0"]
    assert labels[4:] == ["softmax=<b>, seed=2"]
    (alone,) = read_curves(CurvesConfig(runs=str(sweep / "deep" / "softmax-0"))).runs
    assert alone.label == "softmax-0"


def test_runs_are_chosen_by_conditions_and_a_limit(sweep):
    report = read_curves(CurvesConfig(runs=str(sweep), where="softmax=consmax and seed=1"))
    assert [run.run for run in report.runs] == ["deep/consmax-1"]
    report = read_curves(CurvesConfig(runs=str(sweep), limit=3))
    assert (len(report.runs), report.hidden) == (3, 3)


def test_smoothing_follows_a_line_without_lagging_and_damps_what_alternates():
    line = [2.0 * i for i in range(101)]
    assert smoothed(line, 0.8)[50] == pytest.approx(line[50], abs=1e-3)
    assert smoothed([5.0] * 7, 0.9) == pytest.approx([5.0] * 7)
    noisy = smoothed([(-1) ** i for i in range(100)], 0.9)
    assert max(map(abs, noisy[10:-10])) < 0.1
    assert smoothed(line, 0.0) == tuple(line)


def test_csv_and_json_have_every_point_and_agree(written):
    rows = list(csv.DictReader((written / "curves.csv").read_text().splitlines()))
    content = json.loads((written / "curves.json").read_text())
    points = [
        (run["run"], run["label"], figure, str(x), str(y), str(smooth))
        for run in content["runs"]
        for figure, curve in run["curves"].items()
        for x, y, smooth in zip(curve["x"], curve["y"], curve["smooth"], strict=True)
    ]
    names = ("run", "label", "figure", "steps", "value", "smooth")
    assert [tuple(row[name] for name in names) for row in rows] == points
    assert len(points) == 4 * (STEPS + STEPS // 10) + 1


class Page(html.parser.HTMLParser):
    """Tags, what would be fetched, and the text of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.fetched, self.text = set(), [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.fetched += [v for k, v in attributes if k in ("src", "href", "xlink:href") and not v.startswith("#")]

    def handle_data(self, data):
        self.text += data


def test_the_page_is_self_contained_escapes_and_says_what_ended_how(written):
    text = (written / "curves.html").read_text()
    page = Page(text)
    assert page.fetched == []
    assert not {"script", "b", "i", "link"} & page.tags
    assert "softmax=<b>, seed=2" in page.text
    assert "loss is" in page.text
    assert "no val_loss, train_loss in its metrics.jsonl" in page.text
    assert "run.json: not JSON" in page.text
    pictures = re.findall(r"<svg[^>]* width=.*?</svg>", text, flags=re.DOTALL)
    assert len(pictures) == 2
    for picture in pictures:
        xml.etree.ElementTree.fromstring(picture)
        assert "currentColor" in picture


def test_a_run_that_diverged_does_not_set_the_scale(written):
    text = (written / "curves.html").read_text()
    picture = text[text.index("<h2>training loss") :]
    ticks = [float(t) for t in re.findall(r"<text[^>]*>\s*(\d+\.\d+)</text>", picture)]
    assert ticks
    assert max(ticks) < 10


def test_the_picture_is_a_png_with_every_panel(written):
    content = (written / "curves.png").read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = (int.from_bytes(content[i : i + 4], "big") for i in (16, 20))
    assert height > 1.05 * width


def test_a_long_run_is_drawn_with_as_many_points_as_a_picture_shows(tmp_path):
    lines = [{"step": i, "train_loss": 2 + math.sin(i), "seconds": i} for i in range(20_000)]
    make_run(tmp_path / "long", lines=lines)
    _, folder = write_report(CurvesConfig(runs=str(tmp_path), x="seconds", figures=["train_loss"], log=True))
    assert (folder / "curves.html").stat().st_size < 300_000
    assert len((folder / "curves.csv").read_text().splitlines()) == 20_001


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"figures": ["val_los"]}, r"figures: no run has the figure 'val_los'\. Did you mean 'val_loss'\?"),
        ({"figures": []}, r"figures: expected at least one"),
        ({"start": 1e9}, r"start: no run has anything from steps=1e\+09 on"),
        ({"where": "softmax=nobody"}, r"no run that meets where=softmax=nobody in it"),
        ({"where": "sofmax=x"}, r"where: there is no column 'sofmax'\. Did you mean 'softmax'"),
        ({"runs": "no_such_folder"}, r"runs: no_such_folder: no such folder"),
    ],
)
def test_what_cannot_be_drawn_is_said(sweep, changes, message):
    with pytest.raises(UserError, match=message):
        read_curves(CurvesConfig(**({"runs": str(sweep)} | changes)))


def test_a_folder_without_runs_is_said(tmp_path):
    with pytest.raises(UserError, match="no run in it"):
        read_curves(CurvesConfig(runs=str(tmp_path)))


def test_the_command_says_what_it_wrote_and_acts_on_no_terminal(sweep, tmp_path, monkeypatch, capsys):
    words = ["minigpt", "report", "curves", f"runs={sweep}", f"out={tmp_path / 'here'}", "figures=[train_loss]"]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as end:
        console.main()
    printed = capsys.readouterr().out
    assert end.value.code == 0
    assert printed.splitlines()[-2:] == ["5 runs", f"{tmp_path / 'here'}/curves.html (and .png, .csv, .json)"]
    assert "\x1b" not in printed
    assert sorted(path.name for path in (tmp_path / "here").iterdir()) == [
        "curves.csv", "curves.html", "curves.json", "curves.png",
    ]  # fmt: skip
