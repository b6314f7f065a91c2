"""What a person sees of a run while it goes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from minigpt import screen
from minigpt.evaluation.names import PREFIX, kept
from minigpt.training.figures import STANDING
from minigpt.training.hooks.base import Hook
from minigpt.training.interruption import CLOSED

if TYPE_CHECKING:
    from minigpt.training.trainer import Outcome, Trainer


class Display(Hook):
    """A progress bar with loss, figures, tokens per second and time left; where nobody watches, a plain line per
    validation. A reader who goes (``| head``) interrupts the run, which saves and can be gone on with."""

    def __init__(self, console: Console | None = None):
        self.console = console or screen.console(highlight=False, soft_wrap=True)
        columns = (
            BarColumn(),
            TextColumn("{task.percentage:5.1f} %  {task.description}  left", markup=False),
            TimeRemainingColumn(),
        )
        self.bar = Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal)
        self.task = self.bar.add_task("", total=1.0)

    def begin(self, run: Trainer) -> None:
        self.bar.start()
        self.say(run, f"{run.dataset.label}, {run.precision.name} on {run.device}, in {run.folder}")

    def logged(self, run: Trainer, line: Mapping[str, Any]) -> None:
        own = "".join(f"  {name} {value:.3g}" for name, value in line.items() if name not in STANDING)
        words = f"step {line['step']}  loss {line['train_loss']:.3f}{own}  {line['tokens_per_second']:,.0f} tokens/s"
        self.bar.update(self.task, completed=run.fraction, description=words)

    def validated(self, run: Trainer, line: Mapping[str, Any], best: bool) -> None:
        seconds, fraction = line["seconds"], run.fraction
        left = seconds * (1 - fraction) / fraction if fraction else math.nan
        others = "".join(f" {name} {line[f'val_loss.{name}']:.4f}" for name in run.dataset.others)
        self.say(
            run,
            f"step {line['step']:>6}  val loss {line['val_loss']:.4f}{'*' if best else ' '}{others} "
            f"{line['bits_per_byte']:.3f} bits/byte  {seconds:.0f} s, {left:.0f} s left",
        )

    def scored(self, run: Trainer, line: Mapping[str, Any]) -> None:
        scores = kept({name: value for name, value in line.items() if name.startswith(PREFIX)})
        words = "  ".join(f"{name.removeprefix(PREFIX)} {value:.4g}" for name, value in scores.items())
        self.say(run, f"step {line['step']:>6}  {words}")

    def end(self, run: Trainer, outcome: Outcome | None) -> None:
        self.bar.stop()

    def say(self, run: Trainer, text: str) -> None:
        try:
            self.console.print(screen.plain_text(text))
        except BrokenPipeError:
            run.interruption.requested = CLOSED
