"""The PPA report: from run folders to four files that say the same."""

from __future__ import annotations

import csv
import dataclasses
import html.parser
import json
import re
import xml.etree.ElementTree
from pathlib import Path

import pytest

from minigpt import config
from minigpt.errors import UserError
from minigpt.hardware import load
from minigpt.report import ppa_pages, ppa_rows
from minigpt.report.ppa import PpaReportConfig, write_report
from minigpt.report.ppa_variants import grouped
from minigpt.testing import make_spec
from minigpt.training.record import find_runs
from tests.report.fake_runs import make_run
from tests.warm import python

EDGE = load("edge_16nm")


class Cells(html.parser.HTMLParser):
    """(field -> values in order) of all cells of a page, and everything the page would fetch."""

    def __init__(self, page):
        super().__init__()
        self.values, self.shown, self.fetched, self._open = {}, {}, [], None
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        named = dict(attributes)
        self.fetched += [v for k, v in attributes if k in ("src", "href", "xlink:href") and not v.startswith("#")]
        if "data-field" in named:
            self._open = named["data-field"]
            self.values.setdefault(self._open, []).append(named["data-value"])
            self.shown.setdefault(self._open, []).append("")
        elif tag in ("small", "span"):
            self._open = None

    def handle_data(self, text):
        if self._open:
            self.shown[self._open][-1] += text

    def handle_endtag(self, tag):
        if tag == "td":
            self._open = None


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """Two softmaxes with three seeds each, one of them also with fewer KV heads, and two runs that came to nothing."""
    folder = tmp_path_factory.mktemp("sweep")
    losses = {"softmax": (2.00, 2.02, 2.04), "consmax": (2.10, 2.11, 2.12)}
    for name, values in losses.items():
        for seed, loss in enumerate(values):
            make_run(folder / "deep" / f"{name}-{seed}", val_loss=loss, seed=seed, softmax=name)
    make_run(folder / "relumax-0", val_loss=None, status="diverged", reason="loss is <nan>", softmax="relumax")
    make_run(folder / "softmax-3", val_loss=None, status="out_of_memory", seed=3, softmax="softmax")
    return folder


@pytest.fixture(scope="module")
def written(sweep):
    _, folder = write_report(PpaReportConfig(runs=str(sweep), hardware=EDGE))
    assert folder == sweep / "ppa"
    return {name: (folder / f"report.{name}").read_text() for name in ("html", "md", "json", "csv")}


def test_csv_json_and_page_say_the_same_numbers(written):
    rows = json.loads(written["json"])["rows"]
    table = list(csv.DictReader(written["csv"].splitlines()))
    page = Cells(written["html"]).values
    assert [set(row) for row in rows] == [set(row) for row in table]
    for field in table[0]:
        as_text = [ppa_pages.data(row[field]) for row in rows]
        assert as_text == [row[field] for row in table]
        if field in page and field not in (
            "energy_mj",
            "latency_ms",
            "variant",
        ):  # these three stand in other tables too
            assert page[field] == as_text, field
    for field in ("energy_mj", "latency_ms", "variant"):
        assert page[field][: len(rows)] == [ppa_pages.data(row[field]) for row in rows]


def test_the_page_and_the_markdown_show_the_numbers_rounded_not_changed(written):
    cells = Cells(written["html"])
    first = json.loads(written["json"])["rows"][0]
    for field in ("val_loss", "energy_mj", "latency_ms", "area_mm2"):
        shown = cells.shown[field][0].strip().replace(",", "")
        assert float(shown) == pytest.approx(first[field], rel=1e-3)
        assert re.search(rf"\b{re.escape(shown)}\b", written["md"].replace(",", ""))


def test_seeds_are_grouped_into_mean_and_sample_deviation(written):
    rows = {row["variant"]: row for row in json.loads(written["json"])["rows"]}
    assert set(rows) == {"softmax=softmax", "softmax=consmax"}
    row = rows["softmax=softmax"]
    assert row["seeds"] == 3
    assert row["val_loss"] == pytest.approx(2.02)
    assert row["val_loss_std"] == pytest.approx(0.02)


def test_runs_without_a_result_are_listed_with_status_and_reason(written):
    left_out = {row["run"]: row for row in json.loads(written["json"])["left_out"]}
    assert {name: row["status"] for name, row in left_out.items()} == {
        "relumax-0": "diverged", "softmax-3": "out_of_memory",
    }  # fmt: skip
    for page in ("html", "md"):
        assert "out_of_memory" in written[page]
    assert "loss is &lt;nan&gt;" in written["html"]
    assert "loss is &lt;nan&gt;" in written["md"]


def test_the_breakdown_of_every_variant_adds_up(written):
    content = json.loads(written["json"])
    for row in content["rows"]:
        parts = [c for c in content["components"] if c["variant"] == row["variant"]]
        assert sum(c["energy_mj"] for c in parts) == pytest.approx(row["energy_mj"], rel=1e-12)
        assert sum(c["latency_ms"] for c in parts) == pytest.approx(row["latency_ms"], rel=1e-12)
        assert sum(c["energy_share"] for c in parts) == pytest.approx(1)


def test_the_page_is_self_contained_and_its_plot_is_wellformed(written):
    assert Cells(written["html"]).fetched == []
    assert "@import" not in written["html"]
    assert "<script" not in written["html"]
    svg = written["html"][written["html"].index("<svg") : written["html"].index("</svg>") + 6]
    xml.etree.ElementTree.fromstring(svg)
    assert "currentColor" in svg


def test_every_constant_of_the_machine_is_in_the_assumptions(written):
    names = [a["name"] for a in json.loads(written["json"])["assumptions"]]
    assert names == list(EDGE.all_constants)
    for constant in EDGE.all_constants.values():
        assert constant.source.split(";")[0] in written["md"]


def test_every_setting_of_the_machine_is_printed(written):
    for field in ("memory.sram_bytes", "vector.row_length", "tdp_w", "node_nm", "matrix.rows", "description"):
        assert f">{field}<" in written["html"]


def test_unit_and_system_level_stand_side_by_side(written):
    units = {u["variant"]: u for u in json.loads(written["json"])["units"] if u["component"].endswith("softmax")}
    assert units["softmax=softmax"]["unit_area_um2"] > 10 * units["softmax=consmax"]["unit_area_um2"]
    for row in units.values():
        assert row["unit_energy_per_token_uj"] < row["component_energy_per_token_uj"]
        assert row["component_energy_per_token_uj"] < row["system_energy_per_token_uj"]


@pytest.mark.parametrize(
    ("points", "front"),
    [
        ([(1, 3), (2, 2), (3, 1)], [True, True, True]),
        ([(1, 1), (2, 2), (1, 2)], [True, False, False]),
        ([(1, 1), (1, 1)], [True, True]),
    ],
)
def test_the_front_holds_what_no_other_point_beats(points, front):
    assert ppa_rows.pareto_front(points) == front


def test_the_baseline_may_be_a_variant_or_a_run_and_its_ratio_is_one(sweep, tmp_path):
    for name in ("softmax=softmax", "softmax-1"):
        _, out = write_report(PpaReportConfig(runs=str(sweep), hardware=EDGE, out=str(tmp_path), baseline=name))
        content = json.loads((out / "report.json").read_text())
        row = next(r for r in content["rows"] if r["baseline"])
        assert content["baseline"] == row["variant"] == "softmax=softmax"
        assert row["energy_ratio"] == row["energy_ratio_low"] == row["energy_ratio_high"] == 1


def test_an_unknown_baseline_names_the_choices(sweep, tmp_path):
    with pytest.raises(UserError, match="'softmx'"):
        write_report(PpaReportConfig(runs=str(sweep), hardware=EDGE, out=str(tmp_path / "x"), baseline="softmx"))
    assert not (tmp_path / "x").exists()


def test_a_folder_without_a_completed_run_says_what_it_found(tmp_path):
    make_run(tmp_path / "bad", val_loss=None, status="diverged")
    with pytest.raises(UserError, match=r"no completed run .* found bad \(diverged"):
        write_report(PpaReportConfig(runs=str(tmp_path), hardware=EDGE))


def test_one_run_folder_is_a_report_of_one(tmp_path):
    run = make_run(tmp_path / "only")
    _, out = write_report(PpaReportConfig(runs=str(run.folder), hardware=EDGE, context=8))
    (row,) = json.loads((out / "report.json").read_text())["rows"]
    assert (row["seeds"], row["val_loss_std"], row["context"], row["pareto"]) == (1, None, 8, True)


def test_context_and_batch_change_the_figures(sweep, tmp_path):
    figures = []
    for context, batch in ((16, 1), (8, 1), (16, 4)):
        _, out = write_report(
            PpaReportConfig(runs=str(sweep), hardware=EDGE, out=str(tmp_path), context=context, batch=batch)
        )
        figures.append([r["energy_mj"] for r in json.loads((out / "report.json").read_text())["rows"]])
    assert figures[0] > figures[1]
    assert figures[0] > figures[2]


def test_the_report_is_the_same_when_written_again(sweep, written, tmp_path):
    _, out = write_report(PpaReportConfig(runs=str(sweep), hardware=EDGE, out=str(tmp_path)))
    for name, text in written.items():
        assert (out / f"report.{name}").read_text() == text


def test_the_configuration_composes_and_a_field_of_the_machine_can_be_set():
    from hydra import compose, initialize_config_dir

    from minigpt.cli import CONF

    with initialize_config_dir(str(CONF), version_base=None):
        cfg = compose("ppa_report", ["hardware=h100_sxm", "hardware.memory.bandwidth_gb_s=4800", "runs=out/x"])
    read = config.check(cfg, PpaReportConfig)
    assert (read.hardware.name, read.hardware.memory.bandwidth_gb_s, read.runs) == ("h100_sxm", 4800.0, "out/x")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1234567.0, "1,234,567"),
        (0.012345, "0.01235"),
        (3.5e-7, "3.500e-07"),
        (None, "-"),
        (99999.0, "99,999"),
    ],
)
def test_numbers_are_shown_with_four_significant_digits(value, text):
    assert ppa_pages.number(value) == text


def test_counts_are_shown_with_their_prefix():
    assert ppa_pages.count(124_439_808) == "124.4 M"
    assert ppa_pages.count(18_432) == "18.43 k"
    assert ppa_pages.count(6144.0) == "6,144"


def test_every_field_of_the_summary_reaches_json_and_csv(written):
    names = [f.name for f in dataclasses.fields(ppa_rows.VariantRow)]
    assert written["csv"].splitlines()[0].split(",") == names
    assert list(json.loads(written["json"])["rows"][0]) == names


def test_the_command_writes_the_report_and_ends_with_its_summary(sweep, tmp_path):
    arguments = [f"runs={sweep}", f"out={tmp_path / 'report'}", "hardware=edge_16nm"]
    script = Path(__file__).parents[2] / "analysis" / "ppa_report.py"
    done = python(script, *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "mJ/token" in done.stdout
    assert f"{tmp_path / 'report'}/report.html" in done.stdout.replace("\n", "")
    assert sorted(f.name for f in (tmp_path / "report").iterdir()) == [
        "report.csv", "report.html", "report.json", "report.md",
    ]  # fmt: skip


def test_a_mistake_on_the_command_line_is_two_lines(tmp_path):
    script = Path(__file__).parents[2] / "analysis" / "ppa_report.py"
    for argument, answer in (
        ("hardware=edge_16", "Did you mean 'edge_16nm'?"),
        ("+runz=x", "unknown key 'runz'"),
        ("runs=x", "no such folder"),
    ):
        done = python(script, argument, cwd=tmp_path)
        assert done.returncode == 2
        assert answer in done.stderr
        assert "Traceback" not in done.stderr


def test_models_that_only_share_a_name_are_not_averaged(tmp_path):
    for study, n_layer, loss in (("shallow", 1, 4.0), ("deep", 3, 2.0)):
        make_run(tmp_path / study / "softmax-0", val_loss=loss, spec=make_spec(n_layer=n_layer), softmax="softmax")
    found, _ = write_report(PpaReportConfig(runs=str(tmp_path), hardware=EDGE, out=str(tmp_path / "report")))
    assert {row.variant: (row.val_loss, row.seeds) for row in found.rows} == {
        "softmax-0 (deep)": (2.0, 1),
        "softmax-0 (shallow)": (4.0, 1),
    }
    assert len({row.parameters for row in found.rows}) == 2


def test_variants_are_called_by_what_tells_them_apart(tmp_path):
    common = {"plugins": ["mine"], "training.max_steps": 5}
    for seed in (0, 1):
        for norm, more in (("dyt", {"model.d_model": 32}), ("rmsnorm", {})):
            run = make_run(tmp_path / f"{norm}-{seed}", seed=seed, norm=norm)
            dataclasses.replace(run, overrides=common | {"norm": norm, "seed": seed} | more).write()
    run = make_run(tmp_path / "alone", norm="layernorm")
    dataclasses.replace(run, overrides=common).write()
    failed = make_run(tmp_path / "failed", status="failed", val_loss=None)
    dataclasses.replace(failed, overrides=common | {"norm": "dyt", "task": "mtp"}).write()
    groups, left_out = grouped(find_runs(tmp_path).records)
    assert {name: len(runs) for name, runs in groups.items()} == {
        "alone": 1, "norm=dyt, model.d_model=32": 2, "norm=rmsnorm": 2,
    }  # fmt: skip
    assert [row.variant for row in left_out] == ["norm=dyt"]


def test_a_checkpoint_to_start_from_tells_variants_apart_and_plugins_do_not(tmp_path):
    for name, said in (("a", {"init_from": "out/x"}), ("b", {"init_from": "out/y", "plugins": ["p"]})):
        run = make_run(tmp_path / name, spec=make_spec(n_layer=1 + (name == "b")))
        dataclasses.replace(run, overrides=said).write()
    assert list(grouped(find_runs(tmp_path).records)[0]) == ["init_from=out/x", "init_from=out/y"]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_plot_has_room_for_the_longest_names(tmp_path, count):
    for i in range(count):
        run = make_run(tmp_path / str(i), val_loss=2.0 - i / 10, spec=make_spec(n_layer=1 + i))
        dataclasses.replace(run, name="n" * 200, overrides={f"some.key.{'of many words ' * 20}": f"{i}" * 200}).write()
    found, _ = write_report(PpaReportConfig(runs=str(tmp_path), hardware=EDGE))
    assert len({row.variant for row in found.rows}) == count
    assert "<svg" in ppa_pages.pareto_svg(found)


def test_hostile_names_act_on_nothing(tmp_path):
    hostile = "=1+1 <img src=x> [bold]a[/nope] \x1b[31m$x$ |"
    run = make_run(tmp_path / "runs" / "a", softmax="softmax")
    dataclasses.replace(run, overrides={hostile: 1}).write()
    make_run(tmp_path / "runs" / "c", softmax="consmax")
    bad = make_run(tmp_path / "runs" / "b", val_loss=None, status="failed", reason=hostile)
    found, out = write_report(PpaReportConfig(runs=str(bad.folder.parent), hardware=EDGE))
    ppa_pages.show(found)
    pages = {name: (out / f"report.{name}").read_text() for name in ("html", "md", "csv")}
    assert not [name for name, page in pages.items() if "\x1b" in page]
    assert not [name for name in ("html", "md") if "<img" in pages[name]]
    variants = [row["variant"] for row in csv.DictReader(pages["csv"].splitlines())]
    assert any(variant.startswith("'=1+1") for variant in variants)


def test_a_run_whose_model_cannot_be_read_is_left_out_and_the_others_are_reported(tmp_path):
    make_run(tmp_path / "runs" / "good")
    (make_run(tmp_path / "runs" / "torn").folder / "model.json").write_text("{")
    plugged = make_run(tmp_path / "runs" / "plugged")
    model = plugged.folder / "model.json"
    model.write_text(
        model.read_text().replace('"rmsnorm"', '"mine"').replace('"plugins": []', '"plugins": ["not_given"]')
    )
    found, _ = write_report(PpaReportConfig(runs=str(tmp_path), hardware=EDGE))
    assert [row.variant for row in found.rows] == ["good"]
    reasons = {row.run: row.reason for row in found.left_out}
    assert "not JSON" in reasons["torn"]
    assert "plugins=[not_given]" in reasons["plugged"]


def test_a_context_beyond_learned_positions_is_refused(tmp_path):
    folder = make_run(tmp_path / "learned", spec=make_spec(position="learned")).folder
    with pytest.raises(UserError, match="8192 is more than the 16 positions that position=learned has learned"):
        write_report(PpaReportConfig(runs=str(folder), hardware=EDGE, context=8192))
    folder = make_run(tmp_path / "turned", spec=make_spec(position="rope")).folder
    write_report(PpaReportConfig(runs=str(folder), hardware=EDGE, context=8192))
