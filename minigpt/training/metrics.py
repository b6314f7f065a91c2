"""Reading ``metrics.jsonl``. It is written by :class:`minigpt.training.hooks.metrics_file.MetricsFile`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from minigpt.files import read_text

METRICS = "metrics.jsonl"
LARGEST = 2 << 30
"""Bytes; a million lines have some 200 MB."""


def read_metrics(folder: Path | str) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl, oldest first; what a crash or a disk has torn is left out."""
    file = Path(folder) / METRICS
    if not file.is_file():
        return []
    lines = read_text(file, limit=LARGEST, errors="replace").split("\n")[:-1]  # the rest is not a whole line
    return [values for values in map(_read, lines) if isinstance(values, dict)]


def _read(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None
