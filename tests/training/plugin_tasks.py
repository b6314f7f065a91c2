"""Tasks that none of the project's is like: what the seams of the task axis are for."""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F

from minigpt.data.batch import Batch, MaskedTokens, Tokens
from minigpt.data.dataset import Dataset
from minigpt.model import Output
from minigpt.registry import register
from minigpt.schema import Fraction, options
from minigpt.training.tasks.base import Learned, Task


@register("task", "second_half")
class SecondHalf(Task):
    """Learns the second half of every window only: a prompt and its answer, as a loss mask says."""

    stage = "instruction tuning"

    @options
    class Config:
        pass

    def __init__(self, config: Config):
        pass

    def draw(self, dataset: Dataset, number: int, size: int, block_size: int, seed: int) -> MaskedTokens:
        tokens = dataset.train_batch(number, size, block_size, seed)
        mask = torch.arange(block_size).expand(size, -1) >= block_size // 2
        return MaskedTokens(tokens.inputs, tokens.targets, mask)

    def __call__(self, output: Output, batch: MaskedTokens, step: int) -> Learned:
        logits, targets = output.logits[batch.mask].float(), batch.targets[batch.mask]
        right = (logits.argmax(-1) == targets).float().mean()
        by_row = batch.mask.float().mean(dim=1)
        return Learned(F.cross_entropy(logits, targets), {"accuracy": right, "learned": by_row})


@register("task", "distill")
class Distill(Task):
    """Learns what a teacher says: (1 - share) CE(targets) + share KL(teacher || model)."""

    @options
    class Config:
        teacher: str
        share: Fraction = 0.5

    def __init__(self, config: Config):
        self.checkpoints = {"teacher": config.teacher}
        self.share = config.share

    def __call__(self, output: Output, batch: Tokens, step: int) -> Learned:
        theirs = self.models["teacher"](batch.inputs).logits.float().log_softmax(-1)
        ours = output.logits.float().log_softmax(-1)
        distance = F.kl_div(ours, theirs, log_target=True, reduction="none").sum(-1).mean()
        loss = F.nll_loss(ours.flatten(0, 1), batch.targets.flatten())
        return Learned((1 - self.share) * loss + self.share * distance, {"distance": distance})


@register("task", "next_two")
class NextTwo(Task):
    """Learns two tokens at once, from a head that provides logits of the second."""

    needs = frozenset({"second_logits"})

    @options
    class Config:
        pass

    def __init__(self, config: Config):
        pass

    def __call__(self, output: Output, batch: Tokens, step: int) -> Learned:
        first = F.cross_entropy(output.logits.flatten(0, 1).float(), batch.targets.flatten())
        second_logits = output.shared["second_logits"][:, :-1].float()
        second = F.cross_entropy(second_logits.flatten(0, 1), batch.targets[:, 1:].flatten())
        return Learned((first + second) / 2, {"first": first, "second": second})


@register("task", "scaled")
class Scaled(SecondHalf):
    """A loss in a unit of its own."""

    in_nats = False

    def __call__(self, output: Output, batch: MaskedTokens, step: int) -> Learned:
        return Learned(100 * super().__call__(output, batch, step).loss)


@dataclasses.dataclass(frozen=True)
class Pairs(Batch):
    """A kind of batch that no dataset here gives."""

    chosen: torch.Tensor


@register("task", "prefer")
class Prefer(SecondHalf):
    """Reads what there is not."""

    reads = Pairs


@register("task", "look_inside")
class LookInside(SecondHalf):
    """Needs a tensor that no part provides."""

    needs = frozenset({"attention_map"})


@register("task", "takes_a_name")
class TakesAName(SecondHalf):
    """Calls a figure what every log line calls one."""

    def __call__(self, output: Output, batch: MaskedTokens, step: int) -> Learned:
        return Learned(output.logits.mean(), {"val_loss": output.logits.mean()})
