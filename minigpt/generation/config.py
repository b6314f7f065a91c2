"""What a person chooses when sampling: the schema of conf/sample.yaml. Imports no torch."""

from __future__ import annotations

import dataclasses
from typing import Annotated

from minigpt.errors import UserError
from minigpt.schema import Fraction, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, Range, options


@options
class Sampling:
    """How the next token is chosen from the logits.

    temperature: divides the logits; 0 takes the likeliest token. top_k: only the k likeliest. top_p: only the likeliest
    that together reach this probability (nucleus; Holtzman et al. 2019, arXiv:1904.09751). min_p: only those at least
    this times as likely as the likeliest (Nguyen et al. 2024, arXiv:2407.01082). The one after the other, in this
    order. repetition_penalty: before all that, a positive logit of a token that the text has already, its prompt
    included, is divided by it, a negative one multiplied (Keskar et al. 2019, arXiv:1909.05858); 1 is none.
    """

    temperature: NonNegativeFloat = 0.8
    top_k: PositiveInt | None = None
    top_p: Annotated[float, Range(gt=0, le=1)] | None = None
    min_p: Fraction | None = None
    repetition_penalty: PositiveFloat = 1.0

    def __post_init__(self):
        for name in ("top_k", "top_p", "min_p"):
            if self.temperature == 0 and getattr(self, name) is not None:
                raise UserError(
                    f"{name}: does nothing with temperature=0, which takes the likeliest token. Leave out one of them"
                )


@options
class SampleConfig(Sampling):
    """A call of sample.py.

    checkpoint: a run's folder or a checkpoint's. start: the prompt, or FILE:<path> of one. num_samples: how many go on
    from it. max_new_tokens: of each. seed: of the first sample. device: auto, cpu, cuda, mps. stream: print while
    sampling (one sample; several are sampled together and printed at the end). plugins: modules that register the
    model's parts. lm_eval_tasks: instead of sampling, score the model on these tasks of lm-evaluation-harness;
    ``minigpt evaluate`` has the options of that.
    """

    checkpoint: str | None = None
    start: str = "\n"
    num_samples: PositiveInt = 1
    max_new_tokens: PositiveInt = 200
    seed: NonNegativeInt = 0
    device: str = "auto"
    stream: bool = True
    plugins: list[str] = ()  # type: ignore[assignment]
    lm_eval_tasks: list[str] = ()  # type: ignore[assignment]

    def __post_init__(self):
        super().__post_init__()
        if self.checkpoint is None:
            raise UserError("checkpoint: which one? Give a run's folder, such as checkpoint=out/<run>")
        heeded = ("checkpoint", "device", "plugins", "lm_eval_tasks")
        for option in dataclasses.fields(self):
            said = option.name not in heeded and getattr(self, option.name) != option.default
            if self.lm_eval_tasks and said:
                raise UserError(f"{option.name}: does nothing with lm_eval_tasks, which are scored instead of sampling")
