"""Task files from a folder: what they may say, that nothing in them runs, and what is said where no network is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from minigpt.config import TaskOptions
from minigpt.errors import UserError
from minigpt.evaluation import tasks as tasks_module
from minigpt.evaluation.run import check_tasks, evaluate
from minigpt.evaluation.tasks import load_tasks, local_entries

GOOD = {
    "task": "good",
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"test": "data.jsonl"}},
    "test_split": "test",
    "output_type": "loglikelihood",
    "doc_to_text": "{{text}}",
    "doc_to_target": " keys",
    "metric_list": [{"metric": "acc"}],
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """folder(**changes of the task) -> a folder with that one task; None leaves a key out."""
    monkeypatch.chdir(tmp_path)

    def make(text: str | None = None, **changes) -> str:
        place = tmp_path / "mine"
        place.mkdir(exist_ok=True)
        (place / "data.jsonl").write_text('{"text": "The"}\n{"text": "All"}\n')
        content = {key: value for key, value in (GOOD | changes).items() if value is not None}
        (place / "good.yaml").write_text(json.dumps(content) if text is None else text)
        return str(place)

    return make


def options(include_path: str, **changes) -> TaskOptions:
    return TaskOptions(**({"tasks": ("good",), "include_path": include_path} | changes))


def test_data_files_are_found_beside_the_task_file_wherever_one_starts(trained, folder):
    found = evaluate(trained, options(folder()))
    assert found.questions == {"good": 2}
    assert 0 <= found.scores["good.acc"] <= 1
    assert found.higher_is_better == {"good.acc": True}


def test_an_include_and_a_group_are_read(trained, folder):
    place = Path(folder())
    (place / "good.yaml").rename(place / "base_yaml")
    (place / "one.yaml").write_text("include: base_yaml\ntask: one\ntag: both\n")
    (place / "two.yaml").write_text("include: base_yaml\ntask: two\ntag: both\n")
    (place / "group.yaml").write_text("group: pair\ntask: [one, two]\n")
    assert check_tasks(options(str(place), tasks=("pair",))) == ["one.acc", "two.acc"]
    assert check_tasks(options(str(place), tasks=("both",))) == ["one.acc", "two.acc"]
    assert set(evaluate(trained, options(str(place), tasks=("pair",), limit=1)).scores) >= {"one.acc", "two.acc"}


def touch(place) -> str:
    return f"import pathlib\npathlib.Path({str(place)!r}).touch()\ndef f(*a, **k): return 'x'\n"


CODE = {
    "function": ("!function evil.f", "runs code"),
    "class": ({"class": "evil.f"}, "class: runs code"),
    "custom": ({"custom_dataset": "evil.f"}, "custom_dataset: runs code"),
    "prompt": ({"use_prompt": "promptsource:*"}, "use_prompt: runs code"),
    "inline": ({"group": "g", "task": [{"task": "x", "class": "evil.f"}]}, "class: runs code"),
    "deep": (
        {"group": "g", "task": [{"group": "h", "task": [{"task": "x", "dataset_path": "pandas"}]}]},
        "dataset_path",
    ),
    "pickle": ({"dataset_path": "pandas"}, "dataset_path: expected one of json, csv"),
    "folder": ({"dataset_path": "mine"}, "dataset_path: expected one of json, csv"),
    "path": ({"dataset_path": "/etc/passwd"}, "dataset_path: expected one of json, csv"),
    "metric": ({"metric_list": [{"metric": "mine/evil"}]}, "none of the harness's own metrics"),
    "hf_evaluate": ({"metric_list": [{"metric": "acc", "hf_evaluate": True}]}, "none of the harness's own metrics"),
    "url": ({"dataset_kwargs": {"data_files": {"test": "https://example.org/x.jsonl"}}}, "is an address"),
    "missing": ({"dataset_kwargs": {"data_files": {"test": "no.jsonl"}}}, "there is no file"),
    "nothing": ({"dataset_kwargs": {}}, "data_files: is missing"),
    "environment": ({"doc_to_target": "${oc.env:HOME}"}, "would be filled in from outside"),
}


@pytest.mark.parametrize(("said", "message"), CODE.values(), ids=CODE)
def test_what_would_run_code_is_refused(said, message, folder, tmp_path):
    ran = tmp_path / "ran"
    place = Path(folder(**said) if isinstance(said, dict) else folder())
    if isinstance(said, str):
        (place / "good.yaml").write_text(json.dumps(GOOD).replace('"{{text}}"', said))
    (place / "evil.py").write_text(touch(ran))
    with pytest.raises(UserError, match=message):
        check_tasks(options(str(place)))
    assert not ran.exists()


@pytest.mark.parametrize(
    "template",
    ["{{ ''.__class__.__mro__[1].__subclasses__() }}", "{{ cycler.__init__.__globals__.os.system('touch ran') }}"],
)
def test_a_template_reaches_nothing_outside(template, folder, tmp_path):
    with pytest.raises(UserError, match="cannot be loaded: SecurityError"):
        check_tasks(options(folder(doc_to_text=template)))
    assert not (tmp_path / "ran").exists()


def test_a_task_that_fails_on_the_way_is_named(trained, folder):
    place = Path(folder(doc_to_text="{{text if text == 'The' else nothing}}"))
    with pytest.raises(UserError, match="tasks: good: UndefinedError: 'nothing' is undefined"):
        evaluate(trained, options(str(place)))
    with pytest.raises(
        UserError, match="tasks: good: ValueError: Attempted to run task: good which is marked as unsafe"
    ):
        evaluate(trained, options(folder(unsafe_code=True)))


def test_the_harness_has_its_own_templates_afterwards(trained, folder):
    import lm_eval.utils
    import tqdm

    before = lm_eval.utils.env, tqdm.tqdm.__init__
    with pytest.raises(UserError):
        check_tasks(options(folder(doc_to_text="{{")))
    evaluate(trained, options(folder()))
    assert (lm_eval.utils.env, tqdm.tqdm.__init__) == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a configuration"),
        ("a: [1", "cannot be read"),
        ("- task: good", "not a configuration"),
        ("x: 1", "no file in .* names a task"),
        ("task: &a [*a]", "anchors are not followed"),
        ("include: good.yaml\ntask: good", "includes that go deeper"),
        ("task: good\noutput_type: none", "cannot be loaded"),
        ("task: 5\ndataset_path: json", "expected the name of a task"),
        ("group: g\ntask: [{task: [x]}]", "expected the name of a task"),
        ("\x00", "cannot be read"),
    ],
)
def test_a_file_that_is_no_task_is_said_with_its_name(text, message, folder):
    with pytest.raises(UserError, match=message):
        check_tasks(options(folder(text)))


def test_a_folder_without_tasks_is_said(tmp_path):
    for place, message in ((tmp_path, "no .yaml file"), (tmp_path / "none", "is no folder")):
        with pytest.raises(UserError, match=message):
            local_entries(str(place))


def test_options_a_task_would_ignore_are_refused(trained, folder):
    with pytest.raises(UserError, match="task 'good' is always asked without examples"):
        evaluate(trained, options(folder(num_fewshot=0), num_fewshot=2))
    with pytest.raises(UserError, match="this model's tokenizer has none"):
        evaluate(trained, options(folder(), chat_template=True))
    with pytest.raises(UserError, match="tasks: each once"):
        TaskOptions(tasks=("a", "a"))


def test_an_unknown_task_and_a_public_one_without_network_are_said(monkeypatch):
    """The harness's 11,000 tasks are listed once."""
    import datasets.config
    import huggingface_hub.constants as hub

    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "ENDPOINT", "http://127.0.0.1:9")  # nothing answers there
    from lm_eval.tasks import TaskManager

    real = TaskManager()
    monkeypatch.setattr("lm_eval.tasks.TaskManager", lambda include_defaults: real)
    with pytest.raises(UserError, match=r"'hellasvag' is unknown to the harness. Did you mean 'hellaswag'"):
        load_tasks(["hellasvag"])
    with pytest.raises(UserError, match="the texts of arc_easy are not on this machine") as error:
        check_tasks(TaskOptions(tasks=("arc_easy",)))
    assert "127.0.0.1:9 is not reached" in str(error.value)
    assert hub.HF_HUB_OFFLINE


def test_a_server_that_answers_anything_is_one(monkeypatch):
    import urllib.error

    def refuse(*args, **kwargs):
        raise urllib.error.HTTPError("x", 403, "no", {}, None)

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    assert tasks_module._answers("http://127.0.0.1:9")
