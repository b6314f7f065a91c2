"""Reading ``metrics.jsonl``. It is written by :class:`minigpt.training.hooks.metrics_file.MetricsFile`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

METRICS = "metrics.jsonl"


def read_metrics(folder: Path | str) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl, oldest first; a last line cut short by a crash is left out."""
    file = Path(folder) / METRICS
    if not file.is_file():
        return []
    lines = file.read_text(encoding="utf-8").split("\n")[:-1]  # what follows the last line's end is not a whole line
    return [json.loads(line) for line in lines]
