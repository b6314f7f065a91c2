"""``metrics.jsonl``: one line per log or validation, every value by name."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from minigpt.files import open_own
from minigpt.training.hooks.base import Hook
from minigpt.training.metrics import METRICS

if TYPE_CHECKING:
    from minigpt.training.trainer import Outcome, Trainer


class MetricsFile(Hook):
    """Appends lines to ``metrics.jsonl``. A line holds what was measured then: a missing name was not measured,
    null is no finite number.

    step, tokens, seconds stand in every line; val_loss, bits_per_byte in a validation's; ``scores.<task>.<metric>``
    and its ``_stderr`` in that of an evaluation on tasks. A log line has means since the last one: train_loss, the
    task's, without the auxiliary losses of the model's parts; those, and whatever else task and parts measure, each
    under its name. And, of the moment, lr, grad_norm and tokens_per_second.
    """

    def __init__(self) -> None:
        self.keep = 0  # bytes of what is there; what came after is of a future that a resumed run lives again

    def begin(self, run: Trainer) -> None:
        self.stream = open_own(run.folder / METRICS)
        if self.stream.tell() > self.keep:
            self.stream.truncate(self.keep)
            self.stream.seek(0, os.SEEK_END)

    def logged(self, run: Trainer, line: Mapping[str, Any]) -> None:
        self.write(line)

    def validated(self, run: Trainer, line: Mapping[str, Any], best: bool) -> None:
        self.write(line)

    def scored(self, run: Trainer, line: Mapping[str, Any]) -> None:
        self.write(line)

    def write(self, values: Mapping[str, Any]) -> None:
        finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
        self.stream.write((json.dumps(finite) + "\n").encode())
        self.stream.flush()

    def end(self, run: Trainer, outcome: Outcome | None) -> None:
        self.stream.close()

    def state(self) -> int:
        """Bytes written, all of them on the disk when this returns."""
        os.fsync(self.stream.fileno())
        return self.stream.tell()

    def restore(self, state: int) -> None:
        if type(state) is not int or state < 0:
            raise ValueError(f"metrics.jsonl: {state!r} are no bytes to keep")
        self.keep = state
