"""The Optuna side of a study: ``study.db``, one trial per attempt, so that optuna-dashboard and samplers can read it.

The run records are the truth and this database follows them: a torn one is set aside and made anew from the records, a
study that was moved keeps its trials. Overrides are parameters: numbers as numbers, everything else as one of a set of
texts, which grows when a new text comes. Optuna makes the tables; rows are written here, because its own way takes a
transaction or more for each trial, which is minutes for some thousands.
"""

from __future__ import annotations

import json
import math
import os
import sqlite3
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minigpt import registry
from minigpt.errors import UserError
from minigpt.evaluation.names import PREFIX
from minigpt.search.points import as_text
from minigpt.training.metrics import read_metrics
from minigpt.training.record import RunRecord

if TYPE_CHECKING:  # optuna is imported when there is something to write
    from optuna.distributions import BaseDistribution

FILE = "study.db"
_WAIT_SECONDS = 60  # for another program that reads or writes the file
_FIGURES = (
    "best_val_loss", "bits_per_byte", "parameters", "flops_per_token", "state_bytes_per_token", "wall_seconds", "steps",
)  # fmt: skip
_TABLES = {
    "trials": ("trial_id", "number", "study_id", "state", "datetime_start", "datetime_complete"),
    "trial_params": ("trial_id", "param_name", "param_value", "distribution_json"),
    "trial_user_attributes": ("trial_id", "key", "value_json"),
    "trial_values": ("trial_id", "objective", "value", "value_type"),
    "trial_intermediate_values": ("trial_id", "step", "intermediate_value", "intermediate_value_type"),
}


class TrialStore:
    """The trials of one study folder. broken: where a database that could not be read has been put, else None."""

    def __init__(self, folder: Path):
        self.file = folder / FILE
        self.broken = None if _readable(self.file) else _set_aside(self.file)
        if not self.file.exists():
            _make(self.file, folder.name)
        self._db = sqlite3.connect(self.file, timeout=_WAIT_SECONDS)
        self._study = self._own_study(folder.name)

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def make_room(self, overrides: Iterable[Mapping[str, Any]]) -> None:
        """Make ``overrides`` acceptable as parameters beside those already there."""
        from optuna.distributions import distribution_to_json, json_to_distribution

        known = self._db.execute("SELECT DISTINCT param_name, distribution_json FROM trial_params")
        self._distributions = {key: json_to_distribution(text) for key, text in known}
        values = _by_key(overrides)
        narrow = [key for key in values if not _holds(self._distributions.get(key), values[key])]
        there = _by_key(self._overrides().values()) if set(narrow) & set(self._distributions) else {}
        with self._db:
            for key in narrow:
                held = _distribution(key, [*there.get(key, ()), *values[key]])
                text, self._distributions[key] = distribution_to_json(held), held
                self._db.executemany(
                    "UPDATE trial_params SET param_value=?, distribution_json=? WHERE trial_id=? AND param_name=?",
                    [
                        (_internal(each[key], held), text, trial, key)
                        for trial, each in (self._overrides() if key in there else {}).items()
                        if key in each
                    ],
                )

    def start(self, record: RunRecord) -> int:
        """A new trial, running; returns its number."""
        with self._db:
            (number,) = self._enter([record], "RUNNING")
        return number

    def finish(self, number: int, record: RunRecord) -> None:
        """Close a running trial with what its record says: a completed run has a value, anything else failed."""
        found = self._db.execute("SELECT trial_id FROM trials WHERE study_id=? AND number=?", (self._study, number))
        (trial,) = found.fetchone()
        with self._db:
            self._db.execute(
                "UPDATE trials SET state=?, datetime_complete=? WHERE trial_id=?", (_state(record), _now(), trial)
            )
            self._db.execute(
                "DELETE FROM trial_user_attributes WHERE trial_id=? AND key IN ('status', 'reason')", (trial,)
            )
            self._insert("trial_user_attributes", _attributes(trial, _outcome(record)))
            self._insert("trial_values", _values(trial, record))
            self._insert("trial_intermediate_values", _validations(trial, record))

    def adopt(self, records: Sequence[RunRecord]) -> None:
        """Enter trials that have ended, all at once."""
        with self._db:
            self._enter(records, None)

    def running(self) -> list[tuple[int, str]]:
        """(number, config hash) of the trials the database holds for running."""
        return self._attribute("config_hash", "state IN ('RUNNING', 'WAITING')")

    def settled(self) -> set[str]:
        """Config hashes with a trial that ended other than by interruption."""
        interrupted = {number for number, status in self._attribute("status") if status == "interrupted"}
        ended = self._attribute("config_hash", "state NOT IN ('RUNNING', 'WAITING')")
        return {identity for number, identity in ended if number not in interrupted}

    def _enter(self, records: Sequence[RunRecord], state: str | None) -> range:
        """Insert a trial per record, running or as the record says; returns their numbers."""
        from optuna.distributions import distribution_to_json

        texts = {key: distribution_to_json(held) for key, held in self._distributions.items()}
        (trial,) = self._db.execute("SELECT COALESCE(MAX(trial_id), 0) + 1 FROM trials").fetchone()
        (number,) = self._db.execute(
            "SELECT COALESCE(MAX(number), -1) + 1 FROM trials WHERE study_id=?", (self._study,)
        ).fetchone()
        rows: dict[str, list[tuple[Any, ...]]] = {table: [] for table in _TABLES}
        numbers, now = range(number, number + len(records)), _now()
        for trial_id, each, record in zip(range(trial, trial + len(records)), numbers, records, strict=True):
            ended = state is None
            rows["trials"].append((trial_id, each, self._study, state or _state(record), now, now if ended else None))
            rows["trial_params"] += [
                (trial_id, key, _internal(value, self._distributions[key]), texts[key])
                for key, value in record.overrides.items()
            ]
            rows["trial_user_attributes"] += _attributes(trial_id, _origin(record) | _outcome(record))
            if ended:
                rows["trial_values"] += _values(trial_id, record)
                rows["trial_intermediate_values"] += _validations(trial_id, record)
        for table, content in rows.items():
            self._insert(table, content)
        return numbers

    def _insert(self, table: str, rows: Iterable[tuple[Any, ...]]) -> None:
        columns = _TABLES[table]
        self._db.executemany(
            f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})", rows
        )

    def _attribute(self, key: str, where: str = "TRUE") -> list[tuple[int, Any]]:
        """(number, value) of a user attribute, of the trials of this study that ``where`` chooses."""
        found = self._db.execute(
            "SELECT number, value_json FROM trials JOIN trial_user_attributes USING (trial_id) "
            f"WHERE study_id=? AND key=? AND {where} ORDER BY number",
            (self._study, key),
        )
        return [(number, json.loads(text)) for number, text in found]

    def _overrides(self) -> dict[int, dict[str, Any]]:
        """Trial id -> overrides, of all trials."""
        found = self._db.execute("SELECT trial_id, value_json FROM trial_user_attributes WHERE key='overrides'")
        return {trial: json.loads(json.loads(text)) for trial, text in found}

    def _own_study(self, name: str) -> int:
        """The study's number in the database; one of another name is this one, moved or copied."""
        found = self._db.execute("SELECT study_id FROM studies ORDER BY study_name <> ?, study_id", (name,)).fetchone()
        with self._db:
            self._db.execute("UPDATE studies SET study_name=? WHERE study_id=?", (name, found[0]))
        return found[0]


def _readable(file: Path) -> bool:
    """Whether a database is whole and has a study; one that is not there is nothing to complain of.

    Raises UserError when another program holds it: that one is whole as far as anybody can tell.
    """
    if not file.exists():
        return True
    db = sqlite3.connect(file, timeout=_WAIT_SECONDS)
    try:
        whole = db.execute("PRAGMA quick_check(1)").fetchone() == ("ok",)
        (studies,) = db.execute("SELECT COUNT(*) FROM studies").fetchone()
        return whole and studies > 0
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise UserError(f"{file}: another program is writing to it. End that, then the same again") from None
        return False
    finally:
        db.close()


def _set_aside(file: Path) -> Path:
    taken = {path.name for path in file.parent.iterdir()}
    number = next(n for n in range(1, len(taken) + 2) if f"{file.name}.broken-{n}" not in taken)
    place = file.with_name(f"{file.name}.broken-{number}")
    os.replace(file, place)
    for left in ("-journal", "-wal", "-shm"):  # of the torn one; the new one must not meet them
        file.with_name(file.name + left).unlink(missing_ok=True)
    return place


def _make(file: Path, name: str) -> None:
    """An empty study, whole or not at all."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    new = file.with_name(f".{file.name}.new")
    new.unlink(missing_ok=True)
    try:
        connect = {"creator": lambda: sqlite3.connect(new)}  # the path as it is: in an address, ?, #, % and {} act
        storage = optuna.storages.RDBStorage("sqlite://", engine_kwargs=connect)
        study = optuna.create_study(storage=storage, study_name=name, direction="minimize")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names(["val_loss"])
        storage.remove_session()
        storage.engine.dispose()
        os.replace(new, file)
    except Exception as error:
        new.unlink(missing_ok=True)
        if said := _said_by_sqlite(error):
            raise sqlite3.OperationalError(said) from None
        raise


def _said_by_sqlite(error: BaseException | None) -> str:
    """What sqlite could not do, where the libraries above it have wrapped that in errors of their own; else nothing."""
    while error is not None and not isinstance(error, sqlite3.OperationalError):
        error = error.__cause__ or error.__context__
    return str(error or "")


def _origin(record: RunRecord) -> dict[str, Any]:
    """What is known of a trial when it starts."""
    overrides = json.dumps(dict(record.overrides))
    return {"config_hash": record.config_hash, "overrides": overrides, "folder": record.folder.name}


def _outcome(record: RunRecord) -> dict[str, Any]:
    figures = {name: getattr(record, name) for name in _FIGURES} if record.status != "running" else {}
    scores = {PREFIX + name: value for name, value in record.scores.items()}
    found = {k: v for k, v in figures.items() if v is not None} | scores
    return {"status": record.status, "reason": record.reason} | found


def _attributes(trial: int, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    return [(trial, key, json.dumps(value)) for key, value in values.items()]


def _values(trial: int, record: RunRecord) -> list[tuple[Any, ...]]:
    return [(trial, 0, record.val_loss, "FINITE")] if _state(record) == "COMPLETE" else []


def _validations(trial: int, record: RunRecord) -> Iterator[tuple[Any, ...]]:
    """The validation losses on the way, by step; of a step that was validated twice the last."""
    with suppress(OSError, ValueError, KeyError):  # a torn file takes no result away
        losses = {line["step"]: line["val_loss"] for line in read_metrics(record.folder) if "val_loss" in line}
        for step, loss in losses.items():
            yield (trial, step, loss, "FINITE") if loss is not None else (trial, step, None, "NAN")


def _state(record: RunRecord) -> str:
    loss = record.val_loss
    return "COMPLETE" if record.status == "completed" and loss is not None and math.isfinite(loss) else "FAIL"


def _now() -> str:
    return datetime.now().isoformat(" ", "microseconds")  # Optuna's times are of the place, without a zone


def _by_key(overrides: Iterable[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Key -> its different values."""
    found: dict[str, dict[str, Any]] = {}
    for each in overrides:
        for key, value in each.items():
            found.setdefault(key, {}).setdefault(repr(value), value)
    return {key: list(values.values()) for key, values in found.items()}


def _distribution(key: str, values: Sequence[Any]) -> BaseDistribution:
    """What holds all of ``values``: numbers, true and false, or texts; of an axis all its registered names."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    kinds = {str if isinstance(v, float) and not math.isfinite(v) else type(v) for v in values}
    if kinds == {int}:
        return IntDistribution(min(values), max(values))
    if kinds <= {int, float}:
        return FloatDistribution(float(min(values)), float(max(values)))
    if kinds == {bool}:
        return CategoricalDistribution((False, True))
    names = registry.names(key) if key in registry.axes() else []
    return CategoricalDistribution(tuple(dict.fromkeys([*names, *map(as_text, values)])))


def _holds(held: BaseDistribution | None, values: Sequence[Any]) -> bool:
    """Whether a distribution has room for all of ``values`` as they are."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if held is None:
        return False
    if isinstance(held, CategoricalDistribution):
        flags = held.choices == (False, True)
        return all((value if flags else as_text(value)) in held.choices for value in values) and (
            not flags or all(isinstance(value, bool) for value in values)
        )
    assert isinstance(held, (FloatDistribution, IntDistribution))
    kinds = {int, float} if isinstance(held, FloatDistribution) else {int}
    return all(type(value) in kinds and held.low <= value <= held.high for value in values)


def _internal(value: Any, held: BaseDistribution) -> float:
    """A value as the database stores it."""
    from optuna.distributions import CategoricalDistribution

    if not isinstance(held, CategoricalDistribution):
        return float(value)
    return float(held.choices.index(value if held.choices == (False, True) else as_text(value)))
