"""Scores of tasks as what a search and a sweep go by: on paper, and for real."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from minigpt import schema
from minigpt.errors import UserError
from minigpt.evaluation.names import higher_is_better, kept, metric_of
from minigpt.search import worker
from minigpt.search.decision import Candidate, Rule, compare
from minigpt.search.greedy import GreedyConfig, GreedySearch, refuse_unmeasured
from minigpt.search.launcher import FinishedJob
from minigpt.search.points import Point
from minigpt.search.results import FILE, describe, print_table, rows
from minigpt.search.study import Study
from minigpt.training.record import RunRecord

ACC = "scores.mine.acc"


def scored(change: str, accuracies: dict[int, float | None], cost: float = 100) -> Candidate:
    return Candidate(
        change,
        {
            seed: RunRecord(
                name=change,
                status="completed",
                config_hash="",
                seed=seed,
                scores={} if acc is None else {"mine.acc": acc},
                flops_per_token=cost,
                folder=Path(),
            )
            for seed, acc in accuracies.items()
        },
    )


def test_a_score_that_is_better_when_higher_is_gained_upwards():
    rule = Rule(ACC, higher=True, min_gain_per_cost=0.1)
    baseline, better = scored("baseline", {0: 0.5, 1: 0.6}), scored("better", {0: 0.6, 1: 0.8})
    found = compare(baseline, better, rule)
    assert found.accepted
    assert found.gain == pytest.approx(0.15)
    assert "+0.1500 acc" in found.reason
    assert not compare(better, baseline, rule).accepted
    assert compare(baseline, scored("none", {0: 0.9, 1: None}), rule).reason == "seed 1 has no scores.mine.acc"


def asked(**changes) -> GreedyConfig:
    return schema.typed(GreedyConfig, {"space": {"model.n_layer": {"step": 1}}} | changes, "search")


def test_the_direction_of_a_known_metric_is_known_and_of_another_is_asked():
    assert asked(quality=ACC).higher
    assert not asked(quality="scores.mine.bits_per_byte").higher
    assert not asked().higher
    assert asked(quality="scores.mine.own", direction="higher").higher
    assert asked(quality="scores.arc.easy.acc@strict").task == "arc.easy"
    for wrong, message in {
        "scores.mine.own": "search.direction: is more of own better, or less?",
        "scores.acc": "expected scores.<task>.<metric>",
        "loss": "there is no quality 'loss'",
    }.items():
        with pytest.raises(UserError, match=message):
            asked(quality=wrong)
    with pytest.raises(UserError, match=r"acc is better when it is higher. Leave it out"):
        asked(quality=ACC, direction="lower")
    with pytest.raises(UserError, match=r"val_loss is better when it is lower. Leave it out"):
        asked(direction="higher")


def test_scores_have_names():
    assert metric_of("arc_easy.acc_norm@strict") == "acc_norm"
    assert higher_is_better("mine.perplexity") is False
    assert higher_is_better("mine.something") is None
    assert kept({"a.acc": 1.0, "a.acc_stderr": 0.1}) == {"a.acc": 1.0}


@pytest.fixture(scope="module")
def tasks(tmp_path_factory) -> Path:
    """A folder with the task ``words``: what the dataset's own text is worth."""
    folder = tmp_path_factory.mktemp("tasks")
    lines = ["the quick brown fox jumps over a dog", "a dog jumps over the brown fox"]
    (folder / "words.jsonl").write_text("".join(json.dumps({"text": line}) + "\n" for line in lines))
    task = {
        "task": "words",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": "words.jsonl"}, "cache_dir": str(folder / "cache")},
        "test_split": "test",
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{text}}",
        "metric_list": [{"metric": "bits_per_byte"}],
    }
    (folder / "words.yaml").write_text(json.dumps(task))
    return folder


class Here:
    """A launcher whose workers are this process: the harness is imported once."""

    def run(self, jobs):
        for job in jobs:
            yield FinishedJob(job, worker.train(job.folder))


def test_a_search_goes_by_a_score(tmp_path, configure, tasks, capfd):
    evaluate = {"tasks": ["words"], "include_path": str(tasks)}
    base = configure(evaluate=evaluate, training={"max_steps": 30, "batch_size": 4})
    search = schema.typed(
        GreedyConfig,
        {
            "space": {"model.d_model": {"factor": 2, "min": 16, "max": 32}},
            "seeds": [0],
            "fresh_seeds": [7],
            "rounds": 1,
            "quality": "scores.words.bits_per_byte",
            "min_gain_per_cost": 0.0,
        },
        "search",
    )
    refuse_unmeasured(search, base)
    with Study(tmp_path / "study") as study:
        assert GreedySearch(base, search).run(study, Here(), 1) == 0
        records = {r.overrides.get("model.d_model", 16): r for r in study.records.values() if r.seed == 0}
    found = yaml.safe_load((tmp_path / "study" / FILE).read_text())
    scores = {width: record.scores["words.bits_per_byte"] for width, record in records.items()}
    (wider,) = (each for each in found["rounds"][0]["candidates"] if each["change"] == "model.d_model=32")
    assert wider["gain"] == pytest.approx(scores[16] - scores[32]) != 0
    assert found["rounds"][0]["measured"]["scores.words.bits_per_byte"] == scores[16]
    assert f"completed  words.bits_per_byte {scores[32]:.4f}" in capfd.readouterr().out
    assert found["rounds"][0]["chosen"] == "model.d_model=32"
    assert found["verdict"]["n"] == 1
    assert all(trial["scores"].keys() == {"words.bits_per_byte"} for trial in found["trials"])


def test_a_score_that_no_trial_would_have_is_refused_before_the_first(configure, tasks):
    search = asked(quality="scores.words.acc")
    with pytest.raises(UserError, match=r"say which tasks are asked: evaluate.tasks=\[words\]"):
        refuse_unmeasured(search, configure())
    with pytest.raises(UserError, match=r"Did you mean 'scores.words.bits_per_byte'"):
        refuse_unmeasured(
            asked(quality="scores.word.bits_per_byte"),
            configure(evaluate={"tasks": ["words"], "include_path": str(tasks)}),
        )
    part = {"tasks": ["words"], "include_path": str(tasks), "limit": 1}
    with pytest.raises(UserError, match=r"evaluate\.limit: scores of a part"):
        refuse_unmeasured(search, configure(evaluate=part))


def test_a_finished_sweep_that_is_asked_for_scores_evaluates_and_does_not_train(tmp_path, configure, tasks, capsys):
    plain = Point({"seed": 0}, configure())
    with Study(tmp_path / "study") as study:
        study.run([plain], Here(), 1, lambda point, record: None)
        before = study.record(plain)
    weights = (before.folder / "checkpoint" / "last" / "model.safetensors").read_bytes()
    assert not before.scores
    wanted = Point({"seed": 0}, configure(evaluate={"tasks": ["words"], "include_path": str(tasks)}))
    with Study(tmp_path / "study") as study:
        assert study.missing([wanted]) == [wanted]
        assert study.missing([plain]) == []
        study.run([wanted], Here(), 1, lambda point, record: None)
        after = study.record(wanted)
        assert study.missing([wanted]) == []
        print_table("study", rows([wanted], study.records))
    assert after.folder == before.folder
    assert after.evaluated == ("words",)
    assert after.steps == before.steps
    assert weights == (after.folder / "checkpoint" / "last" / "model.safetensors").read_bytes()
    assert describe(after)["scores"] == dict(after.scores)
    assert "words.bits_per_byte" in capsys.readouterr().out.replace("\n", "")
