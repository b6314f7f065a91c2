"""Trackers beside ``metrics.jsonl``: TensorBoard, Weights & Biases. Their failure is a warning, never a run's end."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from minigpt.config import LoggerConfig, TrainConfig
from minigpt.files import read_text, write_text
from minigpt.schema import plain
from minigpt.screen import say
from minigpt.training.hooks.base import Hook

if TYPE_CHECKING:
    from minigpt.training.trainer import Outcome, Trainer


class Tracker(Protocol):
    def log(self, metrics: Mapping[str, Any], step: int) -> None: ...

    def close(self, summary: Mapping[str, Any], well: bool) -> None:
        """well: whether the run came to its end; otherwise it failed, diverged or was interrupted."""


class Tracking(Hook):
    """Tells the tracker that ``logger.name`` asks for. The first time it fails, one line says so; then it is left
    alone."""

    def __init__(self, name: str):
        self.name = name
        self.tracker: Tracker | None = None

    def begin(self, run: Trainer) -> None:
        if self.name != "none":
            self._guarded(lambda: setattr(self, "tracker", _OPENERS[self.name](run.config, run.folder, run.at.step)))

    def logged(self, run: Trainer, line: Mapping[str, Any]) -> None:
        self._log(line, run.at.step)

    def validated(self, run: Trainer, line: Mapping[str, Any], best: bool) -> None:
        self._log(line, run.at.step)

    def scored(self, run: Trainer, line: Mapping[str, Any]) -> None:
        self._log(line, run.at.step)

    def end(self, run: Trainer, outcome: Outcome | None) -> None:
        if self.tracker is not None:
            well = outcome is not None and outcome.status == "completed"
            self._guarded(lambda: self.tracker.close(run.results(), well))

    def _log(self, line: Mapping[str, Any], step: int) -> None:
        if self.tracker is not None:
            self._guarded(lambda: self.tracker.log(line, step))

    def _guarded(self, action: Any) -> None:
        try:
            action()
        except Exception as error:  # anything a tracker does wrong is its own business
            self.tracker = None
            reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
            say(f"logger={self.name} failed and is left out: {reason}. metrics.jsonl has all", file=sys.stderr)


class TensorBoard:
    """Event files in ``<run>/tensorboard``. step: a resumed run overwrites what came after it."""

    def __init__(self, run: TrainConfig, folder: Path, step: int):
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        for name, value in metrics.items():
            if name != "step" and value is not None:
                self.writer.add_scalar(name, value, step)

    def close(self, summary: Mapping[str, Any], well: bool) -> None:
        self.writer.close()


class WandB:
    """A wandb run; offline, its files are in ``<run>/wandb`` for a later ``wandb sync --append``.

    Its id is kept in ``<run>/wandb.id``: a resumed run goes on there, in one curve.
    """

    def __init__(self, run: TrainConfig, folder: Path, step: int):
        import wandb

        known = folder / "wandb.id"
        if not known.is_file():
            write_text(known, secrets.token_hex(4))
        options: LoggerConfig = run.logger
        settings = wandb.Settings(
            init_timeout=options.init_timeout, login_timeout=options.init_timeout, console="off", silent=True
        )
        self.run = wandb.init(
            project=options.project,
            name=folder.name,
            id=read_text(known, links=False).strip(),
            resume="allow" if options.mode == "online" else None,  # offline, the id is enough
            dir=str(folder),
            mode=options.mode,
            config=plain(run),
            settings=settings,
            reinit="create_new",
        )

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        self.run.log(dict(metrics), step=step)

    def close(self, summary: Mapping[str, Any], well: bool) -> None:
        self.run.summary.update(dict(summary))
        self.run.finish(exit_code=0 if well else 1)


_OPENERS = {"tensorboard": TensorBoard, "wandb": WandB}
