"""The Optuna side of a study: ``study.db``, one trial per attempt, so that optuna-dashboard and samplers can read it.

The run records are the truth; this database follows them. Overrides are parameters: numbers as numbers, everything else
as one of a set of texts. Optuna does not let that set change within a study: for a new text, the study is copied.
"""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minigpt import registry
from minigpt.search.points import Point, as_text
from minigpt.training.record import RunRecord

if TYPE_CHECKING:  # optuna is imported when a study is opened, not when a command line is composed
    from optuna.distributions import BaseDistribution
    from optuna.study import Study as OptunaStudy
    from optuna.trial import FrozenTrial

FILE = "study.db"
_FIGURES = (
    "best_val_loss", "bits_per_byte", "parameters", "flops_per_token", "state_bytes_per_token", "wall_seconds", "steps",
)  # fmt: skip


class TrialStore:
    """The trials of one study folder."""

    def __init__(self, folder: Path):
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.file = folder / FILE
        self._study = _open(self.file, folder.name)

    def close(self) -> None:
        """Let go of the file."""
        _close(self._study)

    def make_room(self, points: Sequence[Point]) -> None:
        """Make the overrides of ``points`` acceptable as parameters beside those already there."""
        from optuna.distributions import check_distribution_compatibility

        trials = self.trials()
        known = {key: held for trial in trials for key, held in trial.distributions.items()}
        overrides = [_overrides(trial) for trial in trials] + [point.overrides for point in points]
        values: dict[str, list[Any]] = {}
        for key, value in ((key, value) for each in overrides for key, value in each.items()):
            values.setdefault(key, []).append(value)
        self._distributions = {
            key: known[key] if key in known and _holds(known[key], held) else _distribution(key, held)
            for key, held in values.items()
        }
        try:
            for key, held_now in known.items():
                check_distribution_compatibility(held_now, self._distributions[key])
        except ValueError:
            self._copy(trials)

    def start(self, point: Point, folder: str) -> int:
        """A new trial for ``point``, running; returns its number."""
        from optuna.trial import TrialState, create_trial

        attributes = {"config_hash": point.identity, "overrides": json.dumps(dict(point.overrides)), "folder": folder}
        parameters, distributions = self._parameters(point.overrides)
        self._study.add_trial(
            create_trial(
                state=TrialState.RUNNING,
                params=parameters,
                distributions=distributions,
                user_attrs=attributes | {"status": "running", "reason": ""},
            )
        )
        return self.trials()[-1].number

    def finish(self, number: int, record: RunRecord) -> None:
        """Close a running trial with what its record says: a completed run has a value, anything else failed."""
        from optuna.trial import Trial, TrialState

        trial = Trial(self._study, self.trials()[number]._trial_id)
        figures = {name: getattr(record, name) for name in _FIGURES}
        for key, value in ({"status": record.status, "reason": record.reason} | figures).items():
            if value is not None:
                trial.set_user_attr(key, value)
        loss = record.val_loss
        if record.status == "completed" and loss is not None and math.isfinite(loss):
            self._study.tell(number, loss)
        else:
            self._study.tell(number, state=TrialState.FAIL)

    def trials(self) -> list[FrozenTrial]:
        """All trials, by number."""
        return self._study.get_trials(deepcopy=False)

    def running(self) -> list[tuple[int, str]]:
        """(number, config hash) of the trials the database holds for running."""
        return [(t.number, t.user_attrs["config_hash"]) for t in self.trials() if not t.state.is_finished()]

    def settled(self) -> set[str]:
        """Config hashes with a trial that ended other than by interruption."""
        ended = (t for t in self.trials() if t.state.is_finished())
        return {t.user_attrs["config_hash"] for t in ended if t.user_attrs["status"] != "interrupted"}

    def _parameters(self, overrides: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, BaseDistribution]]:
        distributions = {key: self._distributions[key] for key in overrides}
        return {key: _parameter(value, distributions[key]) for key, value in overrides.items()}, distributions

    def _copy(self, trials: list[FrozenTrial]) -> None:
        """Write all trials into a new database with the wider distributions, and put it in the old one's place."""
        from optuna.trial import create_trial

        copy = self.file.with_suffix(".new")
        copy.unlink(missing_ok=True)
        study = _open(copy, self._study.study_name)
        for trial in trials:
            parameters, distributions = self._parameters(_overrides(trial))
            same = create_trial(
                state=trial.state,
                values=trial.values,
                params=parameters,
                distributions=distributions,
                user_attrs=trial.user_attrs,
                system_attrs=trial.system_attrs,
            )
            same.datetime_start, same.datetime_complete = trial.datetime_start, trial.datetime_complete
            study.add_trial(same)
        _close(study)
        _close(self._study)
        os.replace(copy, self.file)
        self._study = _open(self.file, study.study_name)


def _open(file: Path, name: str) -> OptunaStudy:
    import optuna

    storage = optuna.storages.RDBStorage(f"sqlite:///{file}", engine_kwargs={"connect_args": {"timeout": 60}})
    known = {summary.study_name for summary in optuna.get_all_study_summaries(storage)}
    study = optuna.create_study(storage=storage, study_name=name, direction="minimize", load_if_exists=True)
    if name not in known:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names(["val_loss"])
    return study


def _close(study: OptunaStudy) -> None:
    storage: Any = study._storage
    backend = getattr(storage, "_backend", storage)
    backend.remove_session()
    backend.engine.dispose()


def _overrides(trial: FrozenTrial) -> dict[str, Any]:
    return json.loads(trial.user_attrs["overrides"])


def _distribution(key: str, values: Iterable[Any]) -> BaseDistribution:
    """What holds all of ``values``: numbers, true and false, or texts; of an axis all its registered names."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    values = list(values)
    kinds = {type(value) for value in values}
    if kinds == {int}:
        return IntDistribution(min(values), max(values))
    if kinds <= {int, float}:
        return FloatDistribution(float(min(values)), float(max(values)))
    if kinds == {bool}:
        return CategoricalDistribution((False, True))
    names = registry.names(key) if key in registry.AXES else []
    return CategoricalDistribution(tuple(dict.fromkeys([*names, *map(as_text, values)])))


def _holds(distribution: BaseDistribution, values: Iterable[Any]) -> bool:
    """Whether a set of choices already holds all of ``values``; bounds of numbers may move, it may not."""
    choices = getattr(distribution, "choices", None)
    if choices is None:
        return False
    return all((value if choices == (False, True) else as_text(value)) in choices for value in values)


def _parameter(value: Any, distribution: BaseDistribution) -> Any:
    """A value as the distribution holds it."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if isinstance(distribution, CategoricalDistribution):
        return value if distribution.choices == (False, True) else as_text(value)
    return float(value) if isinstance(distribution, FloatDistribution) else value
