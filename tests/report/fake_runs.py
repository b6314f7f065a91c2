"""Run folders as training leaves them, without training: what a report needs to be tried."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from minigpt.model import ModelSpec
from minigpt.schema import plain
from minigpt.testing import make_spec
from minigpt.training.record import RunRecord


def make_run(
    folder: Path,
    *,
    val_loss: float | None = 2.0,
    status: str = "completed",
    reason: str = "",
    seed: int = 0,
    spec: ModelSpec | None = None,
    **overrides: Any,
) -> RunRecord:
    """Write ``run.json`` and ``model.json``; overrides are what a sweep set, axes of the model."""
    folder.mkdir(parents=True)
    content = plain(spec or make_spec(seed=seed, **overrides)) | {"plugins": []}
    (folder / "model.json").write_text(json.dumps(content))
    record = RunRecord(
        name=folder.name,
        status=status,  # type: ignore[arg-type]
        reason=reason,
        config_hash=folder.name,
        seed=seed,
        overrides=overrides | {"seed": seed},
        val_loss=val_loss,
        bits_per_byte=None if val_loss is None else val_loss / 2.7,
        folder=folder,
    )
    record.write()
    return record
