"""A launcher that trains nothing: for tests of what is launched, and of what is made of the results."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from minigpt import config
from minigpt.config import TrainConfig
from minigpt.search.launcher import FinishedJob
from minigpt.training.record import read_run


class PaperLauncher:
    """Ends every job at once, with ``loss(run)`` and a cost of d_model * n_layer; a loss of None is a failure.

    dies_at: raises KeyboardInterrupt instead of the job of that number. ran: the folders of the jobs that ended.
    """

    def __init__(self, loss: Callable[[TrainConfig], float | None] | None = None, dies_at: int | None = None):
        self.loss = loss or (lambda run: float(run.seed))
        self.dies_at = dies_at
        self.ran: list[Path] = []

    def run(self, jobs):
        for job in jobs:
            if len(self.ran) == self.dies_at:
                raise KeyboardInterrupt
            self.ran.append(job.folder)
            run = config.check(config.load_yaml(job.folder / "config.yaml"), TrainConfig)
            loss, cost = self.loss(run), run.model.d_model * run.model.n_layer
            status = "failed" if loss is None else "completed"
            read_run(job.folder).updated(status=status, reason="on paper", val_loss=loss, flops_per_token=cost)
            yield FinishedJob(job, 0)
