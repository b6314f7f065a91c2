"""Tasks by name: those of a folder, our own suite, and the harness's public ones.

A task file from a folder is data: it is read within limits, functions it names (``!function``, ``class``) are refused,
its templates run in a sandbox, and its texts come from JSON, CSV, Parquet or text files or from a dataset of the hub.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from minigpt.config import load_yaml
from minigpt.data.network import within
from minigpt.errors import UserError, closest, shown
from minigpt.evaluation import builtin
from minigpt.files import read_text

READERS = ("json", "csv", "parquet", "text")
"""Formats that are read without running anything: pickles, say, are none of them."""
MOST_FILES = 2000
DEEPEST = 10  # includes of includes
ANSWER_SECONDS = 3.0
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
_CODE = ("class", "custom_dataset", "use_prompt")


def load_tasks(names: Sequence[str], include_path: str | None = None) -> Any:
    """The harness's tasks of these names: what ``simple_evaluate`` takes for ``task_manager``.

    Raises UserError for a name nobody knows, a task file that is none or asks for code, and for a public task whose
    texts are not on this machine where no network is.
    """
    from lm_eval.tasks import TaskManager

    local = local_entries(include_path)
    if any(is_builtin(name) for name in names if name not in local):
        local |= local_entries(str(builtin.made()))
    public = [name for name in names if name not in local]
    manager = TaskManager(include_defaults=bool(public))
    if unknown := [name for name in public if name not in manager.all_tasks]:
        raise _unknown(unknown[0], [*local, builtin.SUITE, *builtin.TASKS, *manager.all_tasks], include_path)
    if public:
        offline_where_unreachable()
    manager.task_index.update(local)
    return manager


def is_builtin(name: str) -> bool:
    """Whether a name is one of our own suite."""
    return name == builtin.SUITE or name in builtin.TASKS


def local_entries(folder: str | None) -> dict[str, Any]:
    """Name -> the harness's entry, of every task, group and tag in a folder of task files."""
    if folder is None:
        return {}
    from lm_eval.tasks._index import TaskIndex

    place = Path(folder)
    if not place.is_dir():
        raise UserError(
            f"include_path: '{shown(folder)}' is no folder. Expected one with task files, such as my_task.yaml"
        )
    files = sorted(place.rglob("*.yaml"))
    if not files or len(files) > MOST_FILES:
        raise UserError(
            f"include_path: '{shown(folder)}' has {len(files) or 'no'} .yaml files, expected 1 to {MOST_FILES}"
        )
    found: dict[str, Any] = {}
    for file in files:
        content = checked(file)
        if "task" in content or "group" in content:
            TaskIndex.process_cfg(content, file, found)
    for entry in found.values():
        entry.yaml_path = None  # built from what was checked: the file is not read again
    if not found:
        raise UserError(
            f"include_path: no file in '{shown(folder)}' names a task. Expected a line such as task: my_task"
        )
    return found


def checked(file: Path, depth: int = 0) -> dict[str, Any]:
    """A task file with what it includes, and its data files' paths from where it lies. Raises UserError for code."""
    if depth > DEEPEST:
        raise UserError(f"{file}: includes that go deeper than {DEEPEST}, or around in a circle")
    if "!function" in read_text(file, limit=1 << 20):
        raise UserError(
            f"{file}: !function runs code, which a task file from a folder may not. Say it by a template, {{{{...}}}}, "
            f"or trust the file and give it to the harness itself: python -m minigpt.lm_eval --include_path ..."
        )
    content = load_yaml(file)
    includes = content.pop("include", [])
    merged: dict[str, Any] = {}
    for include in includes if isinstance(includes, list) else [includes]:
        merged |= checked(file.parent / str(include), depth + 1)
    merged.pop("task_list", None)
    return _safe(merged | content, file)


def _safe(content: dict[str, Any], file: Path, depth: int = 0) -> dict[str, Any]:
    """A task or group, and what stands in it of further ones, once nothing of it would run code."""
    members = content.get("task")
    name = content.get("group", members)
    if depth > DEEPEST or ("task" in content and not isinstance(name, str)):
        raise UserError(
            f"{file}: task: expected the name of a task, or under a group's name a list, got {shown(name, 60)}"
        )
    _refuse_code(content, file)
    if isinstance(members, list):
        inside = [_safe(each, file, depth + 1) if isinstance(each, dict) else str(each) for each in members]
        content = content | {"task": inside}
    return _with_paths(content, file)


def _refuse_code(content: Mapping[str, Any], file: Path) -> None:
    for key in _CODE:
        if key in content:
            raise UserError(f"{file}: {key}: runs code, which a task file from a folder may not")
    source = content.get("dataset_path")
    if source is not None and source not in READERS:
        is_folder = isinstance(source, str) and Path(source).exists()
        if not isinstance(source, str) or is_folder or not _HUB_NAME.fullmatch(source) or "/" not in source:
            raise UserError(
                f"{file}: dataset_path: expected one of {', '.join(READERS)} with dataset_kwargs.data_files, or the "
                f"name of a dataset such as allenai/ai2_arc, got '{shown(source, 60)}'"
            )
    from lm_eval.api.registry import METRIC_REGISTRY

    metrics = content.get("metric_list") or []
    for entry in metrics if isinstance(metrics, list) else [metrics]:
        name = entry.get("metric") if isinstance(entry, Mapping) else entry
        if name not in METRIC_REGISTRY or (isinstance(entry, Mapping) and entry.get("hf_evaluate")):
            near = closest(name, METRIC_REGISTRY)
            raise UserError(
                f"{file}: metric_list: '{shown(name, 40)}' is none of the harness's own metrics"
                + (f". Did you mean '{near}'?" if near else "")
            )


def _with_paths(content: dict[str, Any], file: Path) -> dict[str, Any]:
    """Data files that lie beside the task file are found there, wherever one starts from."""
    kwargs = content.get("dataset_kwargs")
    if not isinstance(kwargs, dict) or content.get("dataset_path") not in READERS:
        return content

    def placed(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: placed(each) for key, each in value.items()}
        if isinstance(value, list):
            return [placed(each) for each in value]
        if "://" in str(value):
            raise UserError(f"{file}: data_files: '{shown(value, 60)}' is an address. Expected a file on this machine")
        beside = file.parent / str(value)
        chosen = beside if beside.exists() or not Path(str(value)).exists() else Path(str(value))
        if not any(sign in str(value) for sign in "*?[") and not chosen.is_file():
            raise UserError(f"{file}: data_files: there is no file {chosen}")
        return str(chosen.resolve())

    if "data_files" not in kwargs:
        raise UserError(f"{file}: dataset_kwargs.data_files: is missing, expected such as {{test: questions.jsonl}}")
    return content | {"dataset_kwargs": kwargs | {"data_files": placed(kwargs["data_files"])}}


@contextlib.contextmanager
def sandboxed() -> Iterator[None]:
    """Context manager: the harness renders templates without access to Python's insides, and compiles each once."""
    import lm_eval.utils
    from jinja2 import Template
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    compiled: dict[Any, Template] = {}

    class Environment(ImmutableSandboxedEnvironment):
        def from_string(self, source: Any, *args: Any, **kwargs: Any) -> Template:
            if source not in compiled:
                compiled[source] = super().from_string(source, *args, **kwargs)
            return compiled[source]

    former = lm_eval.utils.env
    fresh = Environment(undefined=former.undefined, keep_trailing_newline=True)
    fresh.filters.update(former.filters)
    lm_eval.utils.env = fresh
    try:
        yield
    finally:
        lm_eval.utils.env = former


def offline_where_unreachable() -> bool:
    """Have the hub's client look on this machine alone when its server does not answer; it would try for minutes.
    Returns whether it is offline."""
    import datasets.config
    import huggingface_hub.constants as hub

    if not hub.HF_HUB_OFFLINE and not _answers(hub.ENDPOINT):
        hub.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    return bool(hub.HF_HUB_OFFLINE)


def _answers(address: str) -> bool:
    import urllib.error
    import urllib.request

    request = urllib.request.Request(address, method="HEAD")
    try:
        within(ANSWER_SECONDS, lambda: urllib.request.urlopen(request, timeout=ANSWER_SECONDS).close())
    except urllib.error.HTTPError:
        return True  # it has answered
    except (OSError, ValueError):
        return False
    return True


def _unknown(name: str, known: Sequence[str], include_path: str | None) -> UserError:
    near = closest(name, known)
    where = "the harness" if include_path is None else f"the harness and {include_path}"
    return UserError(
        f"tasks: '{shown(name, 60)}' is unknown to {where}.{f' Did you mean {near!r}?' if near else ''}\n"
        f"  Our own suite is {builtin.SUITE} ({', '.join(builtin.TASKS)}); lm-eval ls tasks lists the public ones"
    )
