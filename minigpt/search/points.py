"""Points: resolved configurations that a sweep or a search wants trained, all checked before the first starts."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minigpt import config, presets, registry, schema
from minigpt.config import TrainConfig
from minigpt.errors import UserError, shown
from minigpt.mixture import names_of
from minigpt.search.keys import set_at
from minigpt.search.progress import counted

_OWN_KEYS = ("name", "resume")
_WHOLE_SWEEP = ("out", "study", "workers", "skip_invalid", "explorations", "plugins")


@dataclass(frozen=True)
class Point:
    """overrides: what sets it apart, by dotted key, as plain values. run: the resolved configuration."""

    overrides: Mapping[str, Any]
    run: TrainConfig

    @functools.cached_property
    def identity(self) -> str:
        return self.run.identity

    def __str__(self) -> str:
        return " ".join(f"{key}={as_text(value)}" for key, value in self.overrides.items())


class CombinationCheck:
    """Builds a run's model on the meta device, each dataset opened once, and asks whether its task and the weights it
    starts from fit: finds what cannot train before it starts.

    Models that differ in nothing but the seed are built once.
    """

    def __init__(self) -> None:
        self._datasets: dict[tuple[Any, ...], Any] = {}
        self._outcomes: dict[str, str] = {}

    def __call__(self, run: TrainConfig) -> None:
        """Raise UserError when the run's data or its combination of parts cannot work."""
        from minigpt.model import resolve  # torch: not before there is something to build
        from minigpt.training.init_from import find_parent
        from minigpt.training.plan import dataset_of, plan_of, schedule_of

        data = run.data
        key = (data.name, data.folder, data.val_tokens, run.model.block_size, *names_of(data.stages))
        if key not in self._datasets:
            self._datasets[key] = dataset_of(run)
        elif data.stages:
            schedule_of(run)  # of this point; the datasets are those of another, with weights of its own
        dataset = self._datasets[key]
        spec = resolve(dataclasses.replace(run, seed=0), dataset.vocab_size)
        what = json.dumps([key, *map(schema.plain, (spec, run.task, run.init_from, run.optimizer.name, run.schedule))])
        if what not in self._outcomes:
            try:
                plan = plan_of(run, dataset)
                if run.init_from is not None:
                    find_parent(run.init_from, plan, dataset)
                self._outcomes[what] = ""
            except UserError as error:
                self._outcomes[what] = str(error)
        if self._outcomes[what]:
            raise UserError(self._outcomes[what])


def checked(points: Sequence[Point]) -> Iterator[Point | UserError]:
    """Every point, if its model can be built, else why not."""
    check = CombinationCheck()
    for point in counted(points, len(points), "points checked"):
        try:
            check(point.run)
            yield point
        except UserError as error:
            yield at_point(point.overrides, error)


def valid(points: Iterable[Point | UserError], *, skipped: list[UserError] | None) -> list[Point]:
    """The points alone. Raises the first error among them, or, with a list to put them into, none."""
    kept = []
    for point in points:
        if isinstance(point, Point):
            kept.append(point)
        elif skipped is None:
            one_line = str(point).startswith("point ") and "\n" not in str(point)
            raise UserError(f"{point}\n  skip_invalid=true goes on without such points") if one_line else point
        else:
            skipped.append(point)
    return kept


def refuse_nothing(points: Sequence[Point], skipped: Sequence[UserError] | None) -> None:
    """Raise UserError when every point has been skipped."""
    if skipped and not points:
        raise UserError(f"skip_invalid: nothing is left; the first of {len(skipped)} points: {skipped[0]}")


def unique(points: Iterable[Point]) -> list[Point]:
    """The first point of every identity."""
    kept: dict[str, Point] = {}
    for point in points:
        kept.setdefault(point.identity, point)
    return list(kept.values())


def at_point(overrides: Mapping[str, Any], error: Exception) -> UserError:
    """The same error, with the point it concerns; nothing has been started."""
    place = " ".join(f"{key}={shown(as_text(value), 60)}" for key, value in overrides.items())
    return UserError(f"point {place}: {error}" if place else str(error))


def refuse_single_run_keys(run: TrainConfig) -> None:
    """Raise UserError for keys that mean one run's folder, where many runs are asked for."""
    for key in _OWN_KEYS:
        if getattr(run, key) is not None:
            raise UserError(
                f"{key}: trials are named and resumed by their study. Name the study instead: study=<name>; "
                f"the same command again goes on where it stopped"
            )
    if run.study is not None and (Path(run.study).is_absolute() or ".." in Path(run.study).parts):
        raise UserError(
            f"study: '{run.study}' leads out of '{run.out}'. Take a plain name, and out=<folder> for its place"
        )


def refuse_swept(keys: Iterable[str]) -> None:
    """Raise UserError for a key that belongs to the sweep as a whole."""
    for key in keys:
        if key in _OWN_KEYS + _WHOLE_SWEEP or key.startswith("hydra"):
            raise UserError(f"{key}: cannot be swept, it is one for all trials")


def vary(base: TrainConfig, changes: Mapping[str, Any]) -> TrainConfig:
    """``base`` with some keys changed: ``{"model.n_layer": 3, "mlp": "gelu_mlp"}``, checked like everything else.

    A component is changed by name, or by the name of a preset in conf/; it starts from its own defaults. As on the
    command line, what a change says of an axis wins over what another axis' preset brings, and options over both.
    """
    content = schema.plain(base)
    words = {key: value for key, value in changes.items() if key in registry.axes() and isinstance(value, str)}
    chosen = {axis: presets.resolve(axis, word) for axis, word in words.items()}
    for parts in chosen.values():
        content |= parts
    content |= {axis: parts[axis] for axis, parts in chosen.items()}
    for key, value in changes.items():
        if key not in words:
            set_at(content, key, value)
    return config.check(content, TrainConfig)


def trial_name(point: Point) -> str:
    """A folder name people can read: words stand for themselves, numbers carry their key. ``consmax-seed1-3f9a0c``."""
    words = []
    for key, value in point.overrides.items():
        word = isinstance(value, str) and "." not in key
        words.append(as_text(value) if word else key.rsplit(".", 1)[-1] + as_text(value))
    readable = re.sub(r"[^\w.+-]+", "_", "-".join(words))[:80].strip("-_.") or "base"
    return f"{readable}-{point.identity[:6]}"


def study_name(points: Sequence[Point]) -> str:
    """A name that the same points always get: the keys that vary and a hash over all of them."""
    keys = list(dict.fromkeys(key.rsplit(".", 1)[-1] for point in points for key in point.overrides))
    digest = hashlib.sha256("".join(sorted(point.identity for point in points)).encode()).hexdigest()
    return "-".join([*(keys[:4] or ["sweep"]), digest[:6]])


def for_study(point: Point, study: str, out: str, name: str, threads: int) -> TrainConfig:
    """The configuration a worker trains: in the study's folder, with ``threads`` unless the point says otherwise."""
    training = dataclasses.replace(point.run.training, threads=point.run.training.threads or threads)
    placed = dataclasses.replace(point.run, out=f"{out}/{study}", name=name, study=study)
    return dataclasses.replace(placed, workers=1, skip_invalid=False, training=training)


def as_text(value: Any) -> str:
    """A value as people type it."""
    if isinstance(value, float):
        return f"{value:.12g}"
    return value if isinstance(value, str) else json.dumps(value)
