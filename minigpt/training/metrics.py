"""``metrics.jsonl``: one line per log or validation, every value by name."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class MetricsFile:
    """Appends lines to ``metrics.jsonl``. A line holds what was measured then: a missing name was not measured,
    null is no finite number.

    step, tokens, seconds stand in every line; train_loss (mean since the last such line), lr, grad_norm and
    tokens_per_second in a log line, and what task and model measure; val_loss, bits_per_byte in a validation's.

    keep: bytes of what is there to keep; what came after is of a future that a resumed run lives again.
    """

    def __init__(self, folder: Path, keep: int = 0):
        file = folder / "metrics.jsonl"
        self.stream = file.open("ab")
        if self.stream.tell() > keep:
            self.stream.truncate(keep)
            self.stream.seek(0, os.SEEK_END)

    def write(self, values: Mapping[str, Any]) -> None:
        finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
        self.stream.write((json.dumps(finite) + "\n").encode())
        self.stream.flush()

    def size(self) -> int:
        """Bytes written, all of them on the disk when this returns."""
        os.fsync(self.stream.fileno())
        return self.stream.tell()

    def close(self) -> None:
        self.stream.close()


def read_metrics(folder: Path | str) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl, oldest first; a last line cut short by a crash is left out."""
    file = Path(folder) / "metrics.jsonl"
    if not file.is_file():
        return []
    lines = file.read_text(encoding="utf-8").split("\n")[:-1]  # what follows the last line's end is not a whole line
    return [json.loads(line) for line in lines]
