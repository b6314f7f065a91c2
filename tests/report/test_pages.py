"""Pages of reports on a narrow screen: nothing makes the page scroll sideways."""

from __future__ import annotations

import html.parser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from minigpt.hardware import load
from minigpt.report.curves import CurvesConfig
from minigpt.report.curves import write_report as write_curves
from minigpt.report.page import TEMPLATES
from minigpt.report.ppa import PpaReportConfig, write_report
from tests.report.fake_runs import make_run

LONG = "a_long_reason_without_a_blank_" * 8


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("pages")
    for softmax in ("softmax", "consmax"):
        make_run(folder / f"a_long_name_{softmax}_{'x' * 60}", softmax=softmax)
    make_run(folder / "failed", status="failed", reason=LONG, val_loss=None, softmax="relumax")
    for run in folder.iterdir():
        (run / "metrics.jsonl").write_text('{"step": 1, "val_loss": 3.0}\n{"step": 2, "val_loss": 2.0}\n')
    _, ppa = write_report(PpaReportConfig(runs=str(folder), hardware=load("edge_16nm")))
    _, curves = write_curves(CurvesConfig(runs=str(folder)))
    return [ppa / "report.html", curves / "curves.html"]


class Structure(html.parser.HTMLParser):
    """Of every table and picture, whether something around it scrolls; of the cells of cards, whether they say what
    they hold."""

    def __init__(self, text: str):
        super().__init__()
        self.open, self.loose, self.unlabelled, self.cards, self.column = [], [], 0, 0, 0
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        named = dict(attributes)
        if tag in ("table", "svg") and "viewbox" not in named and not any("wide" in each for _, each in self.open):
            self.loose.append(tag)
        if tag == "tr":
            self.column = 0
        if tag == "td" and any("cards" in each for _, each in self.open):
            self.cards += 1
            self.unlabelled += self.column > 0 and "data-label" not in named
            self.column += 1
        if tag not in ("meta", "br", "col", "link"):
            self.open.append((tag, (named.get("class") or "").split()))

    def handle_endtag(self, tag):
        while self.open and self.open.pop()[0] != tag:
            pass


def test_every_table_scrolls_by_itself_or_becomes_cards_that_say_what_they_hold(pages):
    for page in pages:
        structure = Structure(page.read_text())
        assert structure.loose == []
        assert structure.cards > 0
        assert structure.unlabelled == 0


def test_no_column_of_a_grid_is_wider_than_the_screen():
    style = (TEMPLATES / "page.css.j2").read_text()
    assert re.findall(r"minmax\((?!min\(|[0-6]rem)[^)]*", style) == []
    assert "@media (max-width: 40rem)" in style


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed; the two tests above stand in")
def test_a_browser_does_not_scroll_the_page_sideways(pages, tmp_path):
    frames = [(page, width) for page in pages for width in (360, 420, 500, 1180)]
    tags = "".join(f'<iframe src="file://{page}" style="width:{w}px;height:900px"></iframe>' for page, w in frames)
    script = (
        "window.onload = () => document.title = [...document.querySelectorAll('iframe')]"
        ".map(f => f.contentDocument.documentElement).map(d => d.scrollWidth - d.clientWidth).join(' ')"
    )
    (tmp_path / "frames.html").write_text(f"<!doctype html><body>{tags}<script>{script}</script>")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files", "--disable-web-security"]
    flags += [f"--user-data-dir={tmp_path / 'browser'}", "--dump-dom", f"file://{tmp_path / 'frames.html'}"]
    done = subprocess.run(["chromium", *flags], capture_output=True, text=True, timeout=240)
    found = re.search(r"<title>([-\d ]+)</title>", done.stdout)
    assert found, done.stderr[-2000:]
    beyond = dict(zip([(page.name, width) for page, width in frames], map(int, found[1].split()), strict=True))
    assert {place: pixels for place, pixels in beyond.items() if pixels > 0} == {}
