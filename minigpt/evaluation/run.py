"""Evaluation, from a trained model and the names of tasks to scores by name."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from minigpt.config import TaskOptions
from minigpt.device import is_out_of_memory, random_state, set_random_state
from minigpt.errors import UserError, shown
from minigpt.evaluation.names import STDERR
from minigpt.exchange.trained import TrainedModel

SEED = 1234  # of which examples come before a question; the harness's own
BOOTSTRAPS = 100  # resamples for the standard error of metrics that have no closed form; the harness's own limit


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """scores: ``<task>.<metric>`` -> what came out; the standard error of one is ``<task>.<metric>_stderr``.

    higher_is_better: of each score that is no standard error. questions: task -> how many. missing: scores that are no
    finite number. seconds: it took. passes, tokens: of the model.
    """

    scores: Mapping[str, float]
    higher_is_better: Mapping[str, bool]
    questions: Mapping[str, int]
    missing: tuple[str, ...]
    seconds: float
    passes: int
    tokens: int


def evaluate(
    trained: TrainedModel,
    options: TaskOptions,
    *,
    give_up: Callable[[], bool] = lambda: False,
    progress: bool | None = None,
) -> Evaluation:
    """What ``trained`` scores on the tasks that ``options`` names.

    The model is put into eval mode and back; random generators stand afterwards where they stood before.
    give_up: asked before every batch; True ends it by InterruptedScoringError. progress: whether bars are shown (None:
    where somebody watches).
    Raises UserError for tasks that are unknown, cannot be read, or ask for what this model does not have.
    """
    _import_harness()
    from lm_eval.evaluator import evaluate as ask

    from minigpt.evaluation.model import MiniGPTLM
    from minigpt.evaluation.tasks import load_tasks, sandboxed

    began = time.monotonic()
    lm = MiniGPTLM.of(trained, options.batch_size, give_up=give_up, progress=progress)
    if options.chat_template:
        lm.chat_template(True)
    with _as_before(trained.model), _quiet(), sandboxed():
        manager = load_tasks(options.tasks, options.include_path)
        loaded = _built(manager, options)
        try:
            found = ask(
                lm=lm,
                task_dict=loaded,
                limit=options.limit,
                apply_chat_template=options.chat_template,
                fewshot_as_multiturn=options.chat_template,
                bootstrap_iters=BOOTSTRAPS,
                log_samples=True,
            )
        except Exception as error:
            if _is_ours(error):
                raise
            said = " ".join(str(error).split())[:200]
            raise UserError(f"tasks: {shown(', '.join(options.tasks), 80)}: {type(error).__name__}: {said}") from error
    assert found is not None  # one process
    scores, better = _scores(found)
    missing = tuple(name for name, value in scores.items() if not math.isfinite(value))
    return Evaluation(
        scores={name: value for name, value in scores.items() if math.isfinite(value)},
        higher_is_better=better,
        questions={task: len(samples) for task, samples in found["samples"].items()},
        missing=tuple(name for name in missing if not name.endswith(STDERR)),
        seconds=time.monotonic() - began,
        passes=lm.scorer.passes,
        tokens=lm.scorer.tokens,
    )


def check_tasks(options: TaskOptions) -> list[str]:
    """The scores that an evaluation with these options gives, by ``<task>.<metric>``.

    Raises UserError now for what it would run into: before a training, say.
    """
    _import_harness()
    from minigpt.evaluation.tasks import load_tasks, sandboxed

    with _quiet(), sandboxed():
        loaded = _built(load_tasks(options.tasks, options.include_path), options)
        return [f"{name}.{metric}" for name, task in loaded["tasks"].items() for metric in task.aggregation()]


def _import_harness() -> None:
    try:
        import lm_eval  # noqa: F401
    except ImportError:
        raise UserError("tasks: needs lm-eval: pip install 'minigpt[eval]'") from None


def _built(manager: Any, options: TaskOptions) -> Any:
    """The tasks with their texts. Raises UserError where those cannot be had, and for an option a task ignores."""
    try:
        loaded = manager.load(list(options.tasks))
    except UserError:
        raise
    except Exception as error:  # whatever a file, a template or a reader of data says
        raise _unloadable(options.tasks, error) from None
    for name, task in loaded["tasks"].items():
        own = task.get_config("num_fewshot")
        if options.num_fewshot is not None and own == 0:
            raise UserError(f"num_fewshot: task '{shown(name, 40)}' is always asked without examples. Leave it out")
        task.set_config(key="num_fewshot", value=own or 0 if options.num_fewshot is None else options.num_fewshot)
        task.set_fewshot_seed(seed=SEED)
    return loaded


def _is_ours(error: Exception) -> bool:
    """Whether an exception comes from here rather than from what a task file says or holds."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = "" if trace is None else trace.tb_frame.f_code.co_filename
    ours = any(f"{os.sep}{package}{os.sep}" in place for package in ("minigpt", "torch"))
    return ours or isinstance(error, UserError) or is_out_of_memory(error)


def _unloadable(names: Sequence[str], error: Exception) -> UserError:
    import huggingface_hub.constants as hub

    asked, said = ", ".join(names), " ".join(str(error).split())[:200] or type(error).__name__
    if hub.HF_HUB_OFFLINE and ("offline" in said.lower() or isinstance(error, (ConnectionError, FileNotFoundError))):
        return UserError(
            f"tasks: the texts of {shown(asked, 80)} are not on this machine, and {hub.ENDPOINT} is not reached.\n"
            f"  Take tasks=[builtin], your own by include_path=<folder>, or evaluate once where there is a network: "
            f"HF_HOME keeps the texts"
        )
    return UserError(f"tasks: {shown(asked, 80)} cannot be loaded: {type(error).__name__}: {said}")


def _scores(found: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, bool]]:
    """The harness's results by ``<task>.<metric>``. Its filter is named where it is not the usual one."""
    scores: dict[str, float] = {}
    better: dict[str, bool] = {}
    for task, results in found["results"].items():
        for key, value in results.items():
            metric, comma, kind = key.partition(",")
            if not comma or isinstance(value, bool) or not isinstance(value, (int, float)):
                continue
            name = f"{task}.{metric}" if kind in ("none", "") else f"{task}.{metric}@{kind}"
            scores[name] = float(value)
            if not metric.endswith(STDERR):
                higher = found["higher_is_better"].get(task, {}).get(metric)
                better[name] = bool(True if higher is None else higher)
    for task, samples in found["samples"].items():
        scores |= _ratio_errors(task, samples)
    return scores, better


def _ratio_errors(task: str, samples: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Standard errors of metrics that are a sum over a sum, such as bits per byte, which the harness gives none for: by
    the spread of what each passage adds (the delta method)."""
    errors = {}
    for metric, per_bit in (("bits_per_byte", True), ("byte_perplexity", False), ("word_perplexity", False)):
        values = [sample[metric] for sample in samples if metric in sample]
        if len(values) < 2:
            continue
        nats, units = (np.array(column, dtype=np.float64) for column in zip(*values, strict=True))
        rate = nats.sum() / units.sum()
        error = math.sqrt(((nats - rate * units) ** 2).sum() * len(values) / (len(values) - 1)) / units.sum()
        errors[f"{task}.{metric}{STDERR}"] = float(error / math.log(2) if per_bit else error * np.exp(min(-rate, 700)))
    return errors


@contextlib.contextmanager
def _as_before(model: torch.nn.Module) -> Iterator[None]:
    """Context manager: eval mode within; afterwards the mode it had, and all random generators where they stood."""
    was_training, device = model.training, next(model.parameters()).device
    generators = random_state(device)
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
        set_random_state(generators, device)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Context manager: the harness prints nothing, and stays one process."""
    import datasets
    from tqdm import tqdm

    former, bars = tqdm.__init__, datasets.utils.logging.is_progress_bar_enabled()
    loggers = [logging.getLogger(name) for name in ("lm_eval", "datasets", "huggingface_hub")]
    levels = [logger.level for logger in loggers]
    single = os.environ.get("DISABLE_MULTIPROC")
    tqdm.__init__ = functools.partialmethod(former, disable=True)  # our own bars say disable=False
    os.environ["DISABLE_MULTIPROC"] = "1"  # its bootstrap would fork a process for every core
    datasets.disable_progress_bars()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        tqdm.__init__ = former
        if single is None:
            del os.environ["DISABLE_MULTIPROC"]
        if bars:
            datasets.enable_progress_bars()
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
