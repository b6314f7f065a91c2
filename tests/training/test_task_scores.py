"""The hook that scores a run on tasks while it trains: the training does not notice, and what it finds is kept."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from minigpt.config import EvaluateConfig
from minigpt.errors import UserError
from minigpt.training.fit import fit
from minigpt.training.hooks.base import Hook
from minigpt.training.matching import unscored
from minigpt.training.record import read_run
from minigpt.training.scores import keep_scores, run_of


@pytest.fixture(scope="module")
def tasks(tmp_path_factory) -> str:
    """A folder with the task ``mine``, and ``foreign`` with a character the tokenizer does not have."""
    folder = tmp_path_factory.mktemp("tasks")
    for name, text in (("mine", "the lazy dog jumps"), ("foreign", "ß the lazy dog")):
        (folder / f"{name}.jsonl").write_text(json.dumps({"text": text}) + "\n" + json.dumps({"text": "a dog"}) + "\n")
        task = {
            "task": name,
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": f"{name}.jsonl"}, "cache_dir": str(folder / "cache")},
            "test_split": "test",
            "output_type": "loglikelihood_rolling",
            "doc_to_text": "",
            "doc_to_target": "{{text}}",
            "metric_list": [{"metric": "bits_per_byte"}],
        }
        (folder / f"{name}.yaml").write_text(json.dumps(task))
    return str(folder)


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def scored(folder: Path) -> dict[int, float]:
    name = "scores.mine.bits_per_byte"
    return {line["step"]: line[name] for line in lines(folder) if name in line}


def weights(record) -> bytes:
    return (record.folder / "checkpoint" / "last" / "model.safetensors").read_bytes()


def test_a_run_is_scored_at_intervals_and_at_the_end_and_trains_the_same(configure, tasks):
    asked = {"tasks": ["mine"], "include_path": tasks, "interval": 8}
    with_dropout = {"model": {"dropout": 0.1}}  # random numbers in training
    run = configure(evaluate=asked, **with_dropout)
    plain = configure(name="plain", **with_dropout)
    assert run.identity == plain.identity
    record, other = fit(run), fit(plain)
    assert weights(record) == weights(other)
    found = scored(record.folder)
    assert list(found) == [8, 16, 20]
    assert found[20] < found[8]
    assert record.scores == {"mine.bits_per_byte": found[20]}
    assert record.evaluated == ("mine",)
    assert read_run(record.folder).scores == record.scores
    assert any("scores.mine.bits_per_byte_stderr" in line for line in lines(record.folder))


def test_the_end_alone_is_scored_once(configure, tasks):
    record = fit(configure(evaluate={"tasks": ["mine"], "include_path": tasks}))
    assert list(scored(record.folder)) == [20]
    places = [i for i, line in enumerate(lines(record.folder)) if "scores.mine.bits_per_byte" in line]
    again = fit(configure(resume=str(record.folder), evaluate={"tasks": ["mine"], "include_path": tasks}))
    assert again == record  # nothing is left to do
    assert len(places) == 1


def test_a_finished_run_is_scored_without_training(configure, tasks):
    before = fit(configure())
    after = fit(configure(resume=str(before.folder), evaluate={"tasks": ["mine"], "include_path": tasks}))
    assert after.scores
    assert after.steps == before.steps
    assert weights(before) == weights(after)
    assert lines(after.folder)[-1]["step"] == 20


class Interrupt(Hook):
    def __init__(self, at: int):
        self.at = at

    def stepped(self, run) -> None:
        if run.at.step == self.at:
            run.interruption.requested = "test"


def test_an_interrupted_run_goes_on_to_the_same_scores(configure, tasks):
    asked = {"tasks": ["mine"], "include_path": tasks, "interval": 5}
    whole = fit(configure(evaluate=asked, name="whole"))
    stopped = fit(configure(evaluate=asked), hooks=[Interrupt(12)])
    assert stopped.status == "interrupted"
    assert list(scored(stopped.folder)) == [5, 10]
    resumed = fit(configure(evaluate=asked, resume=str(stopped.folder)))
    assert scored(resumed.folder) == scored(whole.folder)
    assert resumed.scores == whole.scores


class StopEvaluation(Hook):
    """Somebody presses Ctrl-C while the model is being scored."""

    def begin(self, run) -> None:
        hook = run.hooks["TaskScores"]
        evaluate = hook.evaluate

        def interrupted(run):
            run.interruption.requested = "test"
            evaluate(run)

        hook.evaluate = interrupted


def test_an_evaluation_can_be_interrupted(configure, tasks):
    asked = {"tasks": ["mine"], "include_path": tasks, "interval": 5}
    record = fit(configure(evaluate=asked), hooks=[StopEvaluation()])
    assert record.status == "interrupted"
    assert record.steps == 5
    assert not record.scores


def test_scores_of_a_part_of_the_questions_are_figures_and_no_results(configure, tasks):
    run = configure(evaluate={"tasks": ["mine"], "include_path": tasks, "limit": 1})
    record = fit(run)
    assert set(scored(record.folder)) == {20}
    assert not record.scores
    assert not record.evaluated
    assert not unscored(record, run)  # a sweep does not ask again and again


def test_an_evaluation_that_fails_does_not_end_the_run(configure, tasks, capsys):
    record = fit(configure(evaluate={"tasks": ["foreign"], "include_path": tasks, "interval": 5}))
    assert record.status == "completed"
    assert not record.scores
    assert not record.evaluated
    assert capsys.readouterr().err.count("the run goes on without") == 1


def test_what_cannot_be_evaluated_is_refused_before_anything_is_written(configure, tasks, tmp_path):
    with pytest.raises(UserError, match="include_path"):
        fit(configure(evaluate={"tasks": ["mine"], "include_path": str(tmp_path / "none")}))
    assert not (tmp_path / "out").exists()


def test_an_option_that_does_nothing_is_refused():
    for key, value in {"interval": 5, "limit": 3, "num_fewshot": 1, "batch_size": 4, "chat_template": True}.items():
        with pytest.raises(UserError, match=f"evaluate.{key}: does nothing without tasks"):
            EvaluateConfig(**{key: value})


def test_random_numbers_and_the_mode_stay_as_they_are(configure, tasks):
    from minigpt.config import TaskOptions
    from minigpt.evaluation.run import evaluate
    from minigpt.exchange.trained import load_trained

    trained = load_trained(fit(configure()).folder)
    trained.model.train()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = random.random(), np.random.rand(), torch.rand(())
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    evaluate(trained, TaskOptions(tasks=("mine",), include_path=tasks))
    assert (random.random(), np.random.rand(), torch.rand(())) == expected
    assert trained.model.training


def test_scores_are_put_beside_those_of_other_tasks(configure):
    record = fit(configure())
    assert run_of(record.folder / "checkpoint" / "last") == run_of(record.folder) == record.folder
    keep_scores(record.folder, {"a.acc": 0.5, "b.acc": 0.25}, ["a", "b"])
    kept = keep_scores(record.folder, {"b.acc": 0.75}, ["b"])
    assert kept.scores == {"a.acc": 0.5, "b.acc": 0.75}
    assert kept.evaluated == ("a", "b")
    assert read_run(record.folder) == kept
    (record.folder / "link").symlink_to("/etc")
    with pytest.raises(UserError, match="is a link"):
        keep_scores(record.folder, {"b.acc": 1.0}, ["b"])


def test_the_record_of_a_run_that_trains_is_left_to_it(configure):
    from minigpt.files import Lock

    record = fit(configure())
    with (
        Lock(record.folder / ".lock", busy=lambda holder: None),
        pytest.raises(UserError, match="is being trained by"),
    ):
        keep_scores(record.folder, {"a.acc": 1.0}, ["a"])
    assert run_of(Path("/nowhere")) is None
