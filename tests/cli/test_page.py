"""``--help``: every key of every command has words of its own schema."""

from __future__ import annotations

import pytest

from minigpt.cli.check import CheckConfig
from minigpt.cli.components import ComponentsConfig
from minigpt.cli.page import explanations, help_page, keys_of
from minigpt.config import TrainConfig
from minigpt.data.preparation import PrepareConfig
from minigpt.evaluation.config import EvaluationConfig
from minigpt.exchange.config import ExportConfig, ImportConfig
from minigpt.generation.config import SampleConfig
from minigpt.report.curves import CurvesConfig
from minigpt.report.inspection import InspectConfig
from minigpt.report.ppa import PpaReportConfig
from minigpt.schema import options
from minigpt.search.greedy import SearchConfig

COMMANDS = (
    TrainConfig,
    SearchConfig,
    SampleConfig,
    PrepareConfig,
    PpaReportConfig,
    InspectConfig,
    CurvesConfig,
    ComponentsConfig,
    CheckConfig,
    EvaluationConfig,
    ImportConfig,
    ExportConfig,
)


@pytest.mark.parametrize("root", COMMANDS, ids=lambda root: root.__name__)
def test_every_key_is_explained(root):
    assert [key for key, _, words in keys_of(root, {}) if ": " not in words] == []
    cut_off = [key for key, _, words in keys_of(root, {}) if words[-1] not in ".)"]
    assert cut_off == []  # at a word that looks like the next key
    assert [words for _, _, words in keys_of(root, {}) if "Spec" in words or "NoneType" in words] == []


def test_words_come_from_the_docstring_of_the_schema():
    @options
    class Config:
        """A thing.

        a: the first (None: none). b, c: two
        of them. not_a_key: said of b.
        """

        a: int | None = None
        b: int = 1
        c: int = 2

    assert explanations(Config) == {
        "a": "the first (null: none).",
        "b": "two of them. not_a_key: said of b.",
        "c": "two of them. not_a_key: said of b.",
    }


def test_the_page_shows_the_defaults_of_the_command_s_file():
    page = help_page("ppa_report", PpaReportConfig, "Costs: {this}")
    assert "  batch=1  " in page
    assert "hardware=edge_16nm" in page
    assert "h100_sxm" in page
