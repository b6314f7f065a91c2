"""Trackers beside ``metrics.jsonl``: TensorBoard, Weights & Biases. Their failure is a warning, never a run's end."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from minigpt.config import LoggerConfig, TrainConfig
from minigpt.schema import plain


class Tracker(Protocol):
    def log(self, metrics: Mapping[str, Any], step: int) -> None: ...

    def close(self, summary: Mapping[str, Any]) -> None: ...


class GuardedTracker:
    """The tracker that ``logger.name`` asks for. The first time it fails, one line says so; then it is left alone."""

    def __init__(self, run: TrainConfig, folder: Path, step: int):
        self.name = run.logger.name
        self.tracker: Tracker | None = None
        if self.name != "none":
            self._guarded(lambda: setattr(self, "tracker", _OPENERS[self.name](run, folder, step)))

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        if self.tracker is not None:
            self._guarded(lambda: self.tracker.log(metrics, step))

    def close(self, summary: Mapping[str, Any]) -> None:
        if self.tracker is not None:
            self._guarded(lambda: self.tracker.close(summary))

    def _guarded(self, action: Any) -> None:
        try:
            action()
        except Exception as error:  # anything a tracker does wrong is its own business
            self.tracker = None
            reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
            print(f"logger={self.name} failed and is left out: {reason}. metrics.jsonl has all", file=sys.stderr)


class TensorBoard:
    """Event files in ``<run>/tensorboard``. step: a resumed run overwrites what came after it."""

    def __init__(self, run: TrainConfig, folder: Path, step: int):
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        for name, value in metrics.items():
            if name != "step":
                self.writer.add_scalar(name, value, step)

    def close(self, summary: Mapping[str, Any]) -> None:
        self.writer.close()


class WandB:
    """A wandb run; offline, its files are in ``<run>/wandb`` for a later ``wandb sync``."""

    def __init__(self, run: TrainConfig, folder: Path, step: int):
        import wandb

        options: LoggerConfig = run.logger
        settings = wandb.Settings(
            init_timeout=options.init_timeout, login_timeout=options.init_timeout, console="off", silent=True
        )
        self.run = wandb.init(
            project=options.project,
            name=folder.name,
            dir=str(folder),
            mode=options.mode,
            config=plain(run),
            settings=settings,
            reinit="create_new",
        )

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        self.run.log(dict(metrics), step=step)

    def close(self, summary: Mapping[str, Any]) -> None:
        self.run.summary.update(dict(summary))
        self.run.finish()


_OPENERS = {"tensorboard": TensorBoard, "wandb": WandB}
