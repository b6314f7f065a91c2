"""What a person sees of a run: the model before it, the result after it."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from torch import nn

from minigpt import screen
from minigpt.blocks import ShareSpec
from minigpt.components.attention.base import Attention
from minigpt.model import GPT
from minigpt.screen import plain_text, visible
from minigpt.training.record import RunRecord


def describe(model: GPT, console: Console | None = None) -> None:
    """Print a model's size, and how its attention is computed; when its layers differ, what each is made of."""
    console = console or screen.console(highlight=False, soft_wrap=True)
    spec = model.spec
    frozen = model.parameter_count() - model.trainable_count()
    apart = f" ({frozen:,} of them frozen)" if frozen else ""
    console.print(
        f"{model.parameter_count():,} parameters{apart}, {spec.n_layer} layers of {spec.d_model}, "
        f"context {spec.block_size}, vocabulary {spec.vocab_size:,}"
    )
    paths = [attention_path(layer) for layer in model.blocks]
    if all(block == spec.blocks[0] for block in spec.blocks) and spec.share == ShareSpec():
        console.print(f"attention: {plain_text(paths[0])}")
        return
    varying = [axis for axis in spec.blocks[0].parts if len({str(block.spec(axis)) for block in spec.blocks}) > 1]
    table = Table("layer", "block", *varying, "attention runs", "own parameters", box=None, header_style="bold")
    seen: set[int] = set()
    for index, (block, layer) in enumerate(zip(spec.blocks, model.blocks, strict=True)):
        own = {id(p): p.numel() for p in layer.parameters() if id(p) not in seen}  # a shared part is its first layer's
        seen |= set(own)
        words = (str(index), block.label, *(str(block.spec(axis)) for axis in varying), paths[index])
        table.add_row(*map(plain_text, (*words, f"{sum(own.values()):,}")))
    console.print(table)


def attention_path(layer: nn.Module) -> str:
    """How torch computes the attention of a block, such as ``causal fused``; "none" where a layout has none."""
    found = [f"{part.name} {part.path}" for part in layer.modules() if isinstance(part, Attention)]
    return ", ".join(found) or "none"


def summary(record: RunRecord) -> str:
    """A run's result in a few lines."""
    lines = [f"{record.status}{': ' + record.reason if record.reason else ''}"]
    if record.val_loss is not None:
        best = f" (best {record.best_val_loss:.4f} at step {record.best_step})"
        lines.append(f"val loss {record.val_loss:.4f}{best}, {record.bits_per_byte:.3f} bits/byte")
    speed = f", {record.tokens_per_second:,.0f} tokens/s" if record.tokens_per_second else ""
    lines.append(f"{record.steps} steps, {record.tokens_seen:,} tokens, {record.wall_seconds:.1f} s{speed}")
    lines.append(f"{record.folder}")
    return visible("\n".join(lines), lines=True)
