"""Learning what another model says."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from minigpt.data.batch import Tokens
from minigpt.model import Output
from minigpt.registry import register
from minigpt.schema import FilePath, PositiveFloat, Range, UserError, options
from minigpt.training.tasks.base import Learned, Task, flat_logits


@register("task", "distillation")
class Distillation(Task):
    """loss = share D(teacher, model) + (1 - share) cross-entropy.  Hinton et al. 2015, arXiv:1503.02531.

    t and s are teacher's and model's predictions at the temperature, softmax(logits / temperature), and D is times
    temperature^2, so that its gradient keeps its size. forward_kl: KL(t, s). reverse_kl: KL(s, t), which seeks one mode
    (arXiv:2306.08543). symmetric_kl: their mean. jensen_shannon: the mean of KL(t, m) and KL(s, m), m = (t + s) / 2.
    logit_mse: the mean squared difference of the logits, which has no temperature (arXiv:1312.6184). teacher: a run's
    folder, or a checkpoint's; it needs the same tokenizer.
    """

    @options
    class Config:
        teacher: FilePath
        divergence: Literal["forward_kl", "reverse_kl", "symmetric_kl", "jensen_shannon", "logit_mse"] = "forward_kl"
        temperature: PositiveFloat = 1.0
        share: Annotated[float, Range(gt=0, le=1)] = 0.5

        def __post_init__(self):
            if self.divergence == "logit_mse" and self.temperature != 1:
                raise UserError(
                    f"task.temperature: {self.temperature:g} does nothing with divergence=logit_mse. Leave it at 1, or "
                    f"take another divergence"
                )

    cases = [
        {"teacher": "out/teacher", "divergence": "reverse_kl"},
        {"teacher": "out/teacher", "divergence": "symmetric_kl"},
        {"teacher": "out/teacher", "divergence": "jensen_shannon"},
        {"teacher": "out/teacher", "divergence": "logit_mse"},
        {"teacher": "out/teacher", "temperature": 2.0, "share": 1.0},
    ]

    def __init__(self, config: Config):
        self.checkpoints = {"teacher": config.teacher}
        self.divergence, self.temperature, self.share = config.divergence, config.temperature, config.share
        self.in_nats = config.divergence != "logit_mse"

    def __call__(self, output: Output, batch: Tokens, step: int) -> Learned:
        theirs, ours = flat_logits(self.models["teacher"](batch.inputs)), flat_logits(output)  # (B T, vocab_size)
        surprise = F.cross_entropy(ours, batch.targets.flatten())
        if self.divergence == "logit_mse":
            distance = F.mse_loss(ours, theirs)
        else:
            t, s = (theirs / self.temperature).log_softmax(-1), (ours / self.temperature).log_softmax(-1)
            distance = self.temperature**2 * DIVERGENCES[self.divergence](t, s)
        loss = self.share * distance + (1 - self.share) * surprise
        return Learned(loss, {"cross_entropy": surprise, "distance": distance})


def kl(p: Tensor, q: Tensor) -> Tensor:
    """Mean over rows of KL(p, q), both given as their logarithms."""
    return F.kl_div(q, p, reduction="batchmean", log_target=True)


def jensen_shannon(t: Tensor, s: Tensor) -> Tensor:
    middle = torch.logaddexp(t, s) - math.log(2)
    return (kl(t, middle) + kl(s, middle)) / 2


DIVERGENCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "forward_kl": kl,
    "reverse_kl": lambda t, s: kl(s, t),
    "symmetric_kl": lambda t, s: (kl(t, s) + kl(s, t)) / 2,
    "jensen_shannon": jensen_shannon,
}
"""Of logarithms of predictions, teacher's and model's."""
