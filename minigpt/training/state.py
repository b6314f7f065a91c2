"""Where a run stands, and the file that lets it go on from there exactly."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from minigpt.errors import OutsideError, UserError
from minigpt.model.checkpoint import find_checkpoint, verified
from minigpt.schema import typed
from minigpt.training.record import RunRecord

STATE = "state.pt"


@dataclasses.dataclass
class Standing:
    """What changes as a run goes. Micro-batch i of step s is the loader's number s * accumulation + i.

    seconds: of the run so far, all its sessions together; training_seconds: without validation and saving.
    evaluated_at: the step of the last validation, -1 for none. without_improvement: validations since the best one that
    counts for patience, patience_loss its loss.
    figures: what the last log line says beyond the standing names; val_figures: what the last validation does.
    window: sums since the last log line, as plain values;
    window_steps, window_tokens, window_seconds: steps, tokens and time since then.
    """

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    training_seconds: float = 0.0
    train_loss: float | None = None
    figures: Mapping[str, float] = dataclasses.field(default_factory=dict)
    val_figures: Mapping[str, float] = dataclasses.field(default_factory=dict)
    val_loss: float | None = None
    bits_per_byte: float | None = None
    best_val_loss: float = math.inf
    best_step: int | None = None
    evaluated_at: int = -1
    patience_loss: float = math.inf
    without_improvement: int = 0
    window: Mapping[str, tuple[int, Any]] = dataclasses.field(default_factory=dict)
    window_steps: int = 0
    window_tokens: int = 0
    window_seconds: float = 0.0


@dataclasses.dataclass(frozen=True)
class SavedState:
    """The contents of ``state.pt``. hooks: by name, what each needs to go on."""

    standing: Standing
    optimizer: list[dict[str, Any]]
    scaler: Mapping[str, Any]
    random: Mapping[str, Any]
    dataset_hash: str
    hooks: Mapping[str, Any]

    def write(self, file: Path) -> None:
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        with file.open("wb") as stream:  # torch's own writer would not say that the disk is full
            torch.save(fields | {"standing": dataclasses.asdict(self.standing)}, stream)


def last_checkpoint(folder: Path, record: RunRecord) -> Path | None:
    """The checkpoint a run goes on from, None when it was ended before its first one.

    Raises UserError when there was one and it is gone.
    """
    place = folder / "checkpoint" / "last"
    try:
        return find_checkpoint(place)
    except UserError:
        if record.steps == 0 and not place.exists():
            return None
        raise


class UnusableStateError(UserError):
    """A training state that is whole, but not of this run's model and optimizer."""


def load_state(checkpoint: Path, dataset_hash: str) -> SavedState:
    """The training state of a checkpoint. Raises UserError when it is torn, no such state, or of another dataset."""
    *_, file = verified(checkpoint, ("model.safetensors", "model.json", "tokenizer.json", STATE))
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
        state = SavedState(**content | {"standing": _standing(content["standing"])})
    except MemoryError:
        raise
    except Exception as error:  # whatever unpickling a stranger's file raises
        raise UserError(f"{file}: cannot be read ({(str(error).splitlines() or [''])[0]}). Start a new run") from None
    if state.dataset_hash != dataset_hash:
        raise OutsideError(
            f"{file}: trained on other data (dataset hash {str(state.dataset_hash)[:12]}, now {dataset_hash[:12]}). "
            f"Prepare the dataset as it was, or start a new run"
        )
    return state


def _standing(content: Mapping[str, Any]) -> Standing:
    """Where a run stands, of the types it should have; the window's values are whatever a task measures."""
    standing = typed(Standing, {**content, "window": {}}, "standing")
    times = (standing.seconds, standing.training_seconds, standing.window_seconds)
    if min(standing.step, standing.tokens, *times) < 0 or not all(map(math.isfinite, times)):
        raise ValueError(f"standing.step: {standing.step} steps, {standing.tokens} tokens, {standing.seconds} seconds")
    window = {str(name): (int(times), total) for name, (times, total) in content["window"].items()}
    return dataclasses.replace(standing, window=window)
