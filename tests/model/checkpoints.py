"""Saving checkpoints in tests, and doing to them what disks and strangers do."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch

from minigpt.model import GPT
from minigpt.model.checkpoint import save_checkpoint

TOKENIZER = {"kind": "char", "characters": "abc"}


def save(folder: Path, model: GPT, **changes) -> Path:
    save_checkpoint(folder, model, **({"tokenizer": TOKENIZER, "meta": {"step": 3, "val_loss": 1.5}} | changes))
    return folder


def logits(model: torch.nn.Module) -> torch.Tensor:
    return model(torch.arange(12)[None]).logits


def flip_a_byte(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) * 3 // 4] ^= 1
    file.write_bytes(content)


def rewrite(folder: Path, name: str, write) -> None:
    """Put another file in place, with a ``meta.json`` that vouches for it: what a stranger would hand out."""
    write(folder / name)
    meta = json.loads((folder / "meta.json").read_text())
    content = (folder / name).read_bytes()
    meta["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (folder / "meta.json").write_text(json.dumps(meta))
