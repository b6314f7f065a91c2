"""Our own suite: the same questions every time, from text no model has been trained on, that tell models apart."""

from __future__ import annotations

import json

import pytest

from minigpt import config, registry
from minigpt.config import TaskOptions
from minigpt.data.preparation import PrepareConfig, prepare
from minigpt.data.recipe import load_recipe
from minigpt.evaluation import builtin
from minigpt.evaluation.run import evaluate
from minigpt.exchange.trained import load_trained
from minigpt.training.fit import fit

STEPS = (15, 100, 300)


@pytest.fixture(scope="module")
def questions() -> dict[str, list[dict]]:
    folder = builtin.made()
    return {
        name: [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]
        for name in builtin.TASKS
    }


def test_it_is_made_once_and_the_same_anew(monkeypatch, tmp_path):
    first = builtin.made()
    assert builtin.made() == first
    stamp = (first / "builtin.yaml").stat().st_mtime_ns
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    second = builtin.made()
    assert second != first
    assert second.name == first.name
    for name in builtin.TASKS:
        assert (second / f"{name}.jsonl").read_bytes() == (first / f"{name}.jsonl").read_bytes()
    (second / "builtin_words.jsonl").unlink()
    assert (builtin.made() / "builtin_words.jsonl").is_file()
    assert (first / "builtin.yaml").stat().st_mtime_ns == stamp


def test_it_is_made_where_nothing_can_be_kept(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert (builtin.made() / "builtin.yaml").is_file()


def test_its_text_is_not_in_the_training_part(questions):
    text = load_recipe("pydocs").documents()[0]
    train = text[: int(len(text) * 0.9)]
    held_out = " ".join(text[len(train) :].split())
    for each in questions["builtin_pairs"]:
        assert each["good"] in held_out
    assert sum(each["good"] in " ".join(train.split()) for each in questions["builtin_pairs"]) < 10
    assert sum(len(each["text"]) for each in questions["builtin_text"]) > 0.9 * len(text) * 0.1


def test_every_question_has_one_answer(questions):
    assert {name: len(rows) > 50 for name, rows in questions.items()} == dict.fromkeys(builtin.TASKS, True)
    for each in questions["builtin_choice"]:
        assert len(set(each["choices"])) == 4
    answers = [each["answer"] for each in questions["builtin_choice"]]
    assert all(0.15 < answers.count(place) / len(answers) < 0.35 for place in range(4))
    for each in questions["builtin_pairs"]:
        assert each["good"] != each["bad"]
        assert len(each["good"].split()) == len(each["bad"].split())
    assert {each["kind"] for each in questions["builtin_pairs"]} == {"agreement", "order", "spelling"}
    for each in questions["builtin_words"]:
        assert len(each["context"]) <= builtin.CONTEXT
        assert not each["context"].endswith(" ")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A model of 30,000 parameters that is scored at three places of its training."""
    folder = tmp_path_factory.mktemp("run")
    prepare(PrepareConfig(dataset="pydocs", folder=str(folder / "data")), say=lambda line: None)
    parts = {a: {"name": registry.axis_named(a).default} for a in registry.axes() if registry.axis_named(a).default}
    content = parts | {
        "data": {"folder": str(folder / "data"), "val_tokens": 4096},
        "model": {"d_model": 48, "n_head": 2, "n_layer": 1, "block_size": 96},
        "optimizer": {"name": "adamw", "lr": 5e-3},
        "training": {"batch_size": 8, "max_steps": STEPS[-1], "eval_interval": 1000, "threads": 1},
        "evaluate": {"tasks": ["builtin"], "interval": 100},
        "out": str(folder / "out"),
        "name": "run",
        "device": "cpu",
    }
    return fit(config.check(content, config.TrainConfig))


def test_models_are_told_apart(run):
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    at = {line["step"]: line for line in lines if "scores.builtin_pairs.acc" in line}
    first, last = at[100], at[300]
    for name, higher in (
        ("builtin_words.acc", True),
        ("builtin_words.perplexity", False),
        ("builtin_choice.acc", True),
        ("builtin_pairs.acc", True),
        ("builtin_text.bits_per_byte", False),
        ("builtin_text.byte_perplexity", False),
    ):
        key = f"scores.{name}"
        assert (last[key] > first[key]) is higher, (name, first[key], last[key])
        assert last[f"{key}_stderr"] > 0
    assert last["scores.builtin_pairs.acc"] > 0.5 + 3 * last["scores.builtin_pairs.acc_stderr"]
    assert last["scores.builtin_choice.acc"] > 0.25 + 3 * last["scores.builtin_choice.acc_stderr"]


def test_its_last_weights_score_the_same_afterwards(run):
    found = evaluate(load_trained(run.folder / "checkpoint" / "last"), TaskOptions(tasks=("builtin",)))
    assert {name: pytest.approx(value) for name, value in run.scores.items()} == {
        name: value for name, value in found.scores.items() if not name.endswith("_stderr")
    }
