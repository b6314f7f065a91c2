"""Whether a record is the result of a configuration: the same settings, the same code, one budget all the way."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from minigpt import registry
from minigpt.checkpoint_folder import META, content_hash
from minigpt.config import TrainConfig
from minigpt.errors import UserError
from minigpt.exchange.fingerprint import files_of, fingerprint
from minigpt.registry import Spec
from minigpt.training.record import RunRecord

_THEN = ", then "


def same_trial(record: RunRecord, run: TrainConfig, code: Mapping[str, str] | None = None) -> str:
    """Why ``record`` is not the result that training ``run`` now would give; nothing when it is.

    code: of the variants of ``run``, when it is known already. A record that does not say with which code it was made
    is taken at its word.
    """
    if record.config_hash != run.identity:
        return f"its configuration is another ({record.config_hash}, not {run.identity})"
    return outdated(record, code_of(run) if code is None else code)


def outdated(record: RunRecord, code: Mapping[str, str]) -> str:
    """Why training the same configuration with ``code`` now would give another result; nothing when it would not."""
    if mixed := sorted(part for part, digest in record.code.items() if _THEN in digest):
        return f"the code of {', '.join(mixed)} was changed on its way, so no one version of it is what was trained"
    changed = sorted(part for part, digest in record.code.items() if code.get(part, digest) != digest)
    if changed:
        return f"the code of {', '.join(changed)} has changed since"
    if record.parent is not None and _parent_now(record.parent) not in (record.parent_hash, ""):
        return f"the weights of {record.parent}, which it started from, are others now"
    for folder, digest in record.companions.items():
        if _parent_now(folder) not in (digest, ""):
            return f"the weights of {folder}, which its task asked, are others now"
    if len(record.budgets) > 1:
        return f"its budget was changed at step {record.budgets[-1].from_step}, and with it the course of its rate"
    return ""


def unscored(record: RunRecord, run: TrainConfig) -> bool:
    """Whether a completed run still has to be evaluated on something that ``run`` asks for."""
    whole = run.evaluate.limit is None  # scores of a part are in no record
    return record.status == "completed" and whole and not set(run.evaluate.tasks) <= set(record.evaluated)


def _parent_now(folder: str) -> str:
    """The content of a checkpoint, or another project's model, as it is now, by its hash; nothing when it is gone."""
    try:
        place = Path(folder)
        files = [place / META] if (place / META).exists() else files_of(place)
        return _content_hash(folder, max((os.stat(file).st_mtime_ns for file in files), default=0)) if files else ""
    except (OSError, UserError):
        return ""


@functools.lru_cache
def _content_hash(folder: str, written: int) -> str:
    """Read once for every trial of a study. written: when, so that another content is read again."""
    return content_hash(Path(folder)) if (Path(folder) / META).exists() else fingerprint(Path(folder))


def code_of(run: TrainConfig) -> dict[str, str]:
    """``axis=name`` -> hash of its code, of every variant a run is made of."""
    used = {(spec.axis, spec.name) for spec in (*_specs(run), *_specs(run.resolved_blocks()))}
    return {f"{axis}={name}": registry.code_hash(axis, name) for axis, name in sorted(used)}


def went_on(former: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """The code of a run that goes on: of what has changed on the way, every version in turn."""
    versions = {part: former.get(part, digest).split(_THEN) for part, digest in now.items()}
    return {
        part: _THEN.join(versions[part] if versions[part][-1] == digest else [*versions[part], digest])
        for part, digest in now.items()
    }


def told_of_code(former: Mapping[str, str], now: Mapping[str, str]) -> str:
    """What it means for a run that goes on that its code is another now, in one line; nothing when it is not."""
    changed = sorted(part for part, digest in now.items() if former.get(part, digest).split(_THEN)[-1] != digest)
    if not changed:
        return ""
    return (
        f"the code of {', '.join(changed)} has changed since this run was last trained, and it goes on with that of "
        f"now. This run stands for itself, no sweep takes it as a trial"
    )


def _specs(value: Any) -> Iterator[Spec]:
    """Every component chosen anywhere in typed configuration."""
    if isinstance(value, Spec):
        yield value
        yield from _specs(value.options)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _specs(getattr(value, field.name))
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _specs(each)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _specs(each)
