"""Whether a record is the result of a configuration: settings, code and budget all count."""

from __future__ import annotations

import json
import sys

import pytest

from minigpt.config import load_yaml
from minigpt.errors import UserError
from minigpt.training.fit import fit
from minigpt.training.matching import code_of, outdated, same_trial
from minigpt.training.metrics import read_metrics
from minigpt.training.record import read_run
from tests.training.test_resume import stored


def test_a_run_is_its_own_trial_and_its_record_says_with_which_code(configure):
    run = configure()
    record = fit(run)
    assert same_trial(record, run) == ""
    assert set(record.code) == set(code_of(run))
    assert {"attention=causal", "norm=rmsnorm", "optimizer=adamw", "schedule=cosine", "task=next_token"} <= set(
        record.code
    )


def test_what_does_not_change_the_result_does_not_change_the_trial(configure):
    record = fit(configure())
    other = {"log_interval": 3, "checkpoint_interval": 7, "threads": 2}
    assert same_trial(record, configure(training=other, name="b", device="cpu", logger={"name": "tensorboard"})) == ""
    assert "configuration" in same_trial(record, configure(seed=1))
    assert "configuration" in same_trial(record, configure(training={"eval_interval": 5}))


PLUGIN = '''
from minigpt.components.norm.rmsnorm import RMSNorm
from minigpt.registry import register


@register("norm", "{name}")
class Edited(RMSNorm):
    """A norm somebody works on."""

    def forward(self, x):
        return super().forward(x) * {factor}
'''


def test_a_variant_that_was_edited_makes_old_results_stale(configure, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    file = tmp_path / "edited_norm_plugin.py"
    file.write_text(PLUGIN.format(name="edited", factor="1.0"))
    run = configure(plugins=["edited_norm_plugin"], norm={"name": "edited"})
    record = fit(run)
    assert same_trial(record, run) == ""
    file.write_text(PLUGIN.format(name="edited", factor="0.5"))
    assert same_trial(record, run) == "the code of norm=edited has changed since"
    assert same_trial(record, run, code=record.code) == ""


def test_a_run_whose_code_was_edited_between_two_sessions_says_so_and_is_no_trial_of_either(
    configure, tmp_path, monkeypatch, capsys
):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    file = tmp_path / "norm_edited_on_the_way.py"
    file.write_text(PLUGIN.format(name="on_the_way", factor="1.0"))
    run = configure(plugins=["norm_edited_on_the_way"], norm={"name": "on_the_way"})
    first = fit(run)
    before = first.code["norm=on_the_way"]
    file.write_text(PLUGIN.format(name="on_the_way", factor="0.5"))
    now = code_of(run)["norm=on_the_way"]
    capsys.readouterr()
    second = fit(stored(first.folder, max_steps=21))
    assert "the code of norm=on_the_way has changed since this run was last trained" in capsys.readouterr().out
    assert second.code["norm=on_the_way"] == f"{before}, then {now}"
    third = fit(stored(first.folder, max_steps=22))
    assert "the code of" not in capsys.readouterr().out
    assert third.code == second.code
    for code in (first.code, code_of(run)):
        assert outdated(read_run(first.folder), code).startswith("the code of norm=on_the_way was changed on its way")


def test_a_run_with_another_budget_is_no_trial_of_either(configure, capsys):
    first = fit(configure())
    longer = fit(stored(first.folder, max_steps=40))
    assert [(b.from_step, b.max_steps) for b in longer.budgets] == [(0, 20), (20, 40)]
    assert "from step 20 on: the schedule ends at step 40, not 20; the rate goes from" in capsys.readouterr().out
    assert longer.config_hash == configure(training={"max_steps": 40}).identity
    assert "its budget was changed at step 20" in same_trial(longer, configure(training={"max_steps": 40}))
    assert "configuration" in same_trial(longer, configure())


def test_the_rates_that_are_told_are_those_of_the_run(configure, capsys):
    first = fit(configure(training={"log_interval": 1, "eval_interval": 50}))
    fit(stored(first.folder, max_steps=40))
    told = capsys.readouterr().out
    lines = [line for line in read_metrics(first.folder) if "lr" in line]
    assert f"to {lines[20]['lr']:.3g}." in told


def test_the_same_budget_again_changes_nothing(configure):
    first = fit(configure())
    first.updated(status="interrupted")
    assert same_trial(fit(stored(first.folder)), configure()) == ""
    assert len(read_run(first.folder).budgets) == 1


def test_a_budget_that_is_taken_back_before_a_step_was_trained_leaves_no_trace(configure):
    record = fit(configure(training={"max_steps": None, "max_tokens": 64 * 20}))
    content = load_yaml(record.folder / "config.yaml")
    assert content["training"]["max_tokens"] == 64 * 20
    assert fit(stored(record.folder, max_tokens=64 * 20)).budgets == record.budgets


@pytest.mark.parametrize(("key", "limit"), [("max_steps", 10), ("max_tokens", 64), ("max_seconds", 1e-3)])
def test_a_budget_below_what_the_run_has_used_is_refused(configure, key, limit):
    record = fit(configure())
    before = json.loads((record.folder / "run.json").read_text())
    with pytest.raises(UserError, match=rf"training\.{key}: .* is less than the .* behind it. Give a larger one"):
        fit(stored(record.folder, **{key: limit}))
    assert json.loads((record.folder / "run.json").read_text()) == before
