"""What a person chooses when sampling: the schema of conf/sample.yaml. Imports no torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Annotated, Literal

from minigpt.errors import UserError
from minigpt.schema import FilePath, Fraction, NonNegativeFloat, NonNegativeInt, PositiveInt, Range, options

Kind = Literal["probability", "rank", "entropy"]

FILE, VAL = "FILE:", "VAL:"


@options
class Sampling:
    """How the next token is chosen from the logits.

    temperature: divides the logits; 0 takes the likeliest token. top_k: only the k likeliest. top_p: only the likeliest
    that together reach this probability, 1 keeps all (nucleus; Holtzman et al. 2019, arXiv:1904.09751). min_p: only
    those at least this times as likely as the likeliest, 0 keeps all (Nguyen et al. 2024, arXiv:2407.01082). The one
    after the other, in this order. repetition_penalty: before all that, a positive logit of a token that the text has
    already, its prompt included, is divided by it, a negative one multiplied (Keskar et al. 2019, arXiv:1909.05858); 1
    is none.
    """

    temperature: NonNegativeFloat = 0.8
    top_k: PositiveInt | None = None
    top_p: Annotated[float, Range(gt=0, le=1)] | None = None
    min_p: Fraction | None = None
    repetition_penalty: Annotated[float, Range(ge=0.01, le=100)] = 1.0

    def __post_init__(self):
        for name in ("top_k", "top_p", "min_p"):
            if self.temperature == 0 and getattr(self, name) is not None:
                raise UserError(
                    f"{name}: does nothing with temperature=0, which takes the likeliest token. Leave out one of them"
                )


@options
class SampleConfig(Sampling):
    """A call of sample.py.

    checkpoint: a run's folder, a checkpoint's, a Hugging Face folder, or nanoGPT's ckpt.pt. start: the prompt, or
    FILE:<path> of one. prompts: FILE:<path> of several, one a line, sampled together; empty lines
    are left out. num_samples: how many go on from each prompt. max_new_tokens: of each. stop: texts that end a sample
    and are not in it, [User:,END]; \\n in them is a line break, \\t a tab, \\\\ a backslash. stop_at_eot: the token
    between documents ends a sample, where the tokenizer has one. seed: of the first sample of each prompt, the next has
    the next (temperature=0 draws nothing). device: auto, cpu, cuda, mps. stream: print while sampling; null: when it is
    one sample. interactive: a prompt a line from the keyboard or a pipe, its continuation as it comes; Ctrl-C stops
    that, an empty line or Ctrl-D ends. format: text, or jsonl: an object a line and nothing else on stdout.

    colorize_output: colour each token by its probability, its rank, or the entropy of the choice, by the model's own
    distribution; marks where there are no colours (no terminal, NO_COLOR; FORCE_COLOR has them in a pipe).
    colorize_text: show this text so instead of sampling: a text, FILE:<path>, or VAL:<dataset folder> for the start of
    its validation split. show_heatmaps: pictures and a page of what each step could have chosen. out: the new folder
    for them; null: beside the run.

    plugins: modules that register the model's parts. lm_eval_tasks: instead of sampling, score the model on these tasks
    of lm-evaluation-harness; ``minigpt evaluate`` has the options of that.
    """

    checkpoint: str | None = None
    start: str = "\n"
    prompts: str | None = None
    num_samples: PositiveInt = 1
    max_new_tokens: PositiveInt = 200
    stop: list[str] = ()  # type: ignore[assignment]
    stop_at_eot: bool = True
    seed: NonNegativeInt = 0
    device: str = "auto"
    stream: bool | None = None
    interactive: bool = False
    format: Literal["text", "jsonl"] = "text"
    colorize_output: Kind | None = None
    colorize_text: str | None = None
    show_heatmaps: bool = False
    out: FilePath | None = None
    plugins: list[str] = ()  # type: ignore[assignment]
    lm_eval_tasks: list[str] = ()  # type: ignore[assignment]

    def __post_init__(self):
        super().__post_init__()
        if self.checkpoint is None:
            raise UserError("checkpoint: which one? Give a run's folder, such as checkpoint=out/<run>")
        if "" in self.stop:
            raise UserError("stop: an empty text would end every sample at once. Leave it out")
        self._refuse_what_does_nothing()

    @property
    def several(self) -> bool:
        """Whether there may be more than one sample."""
        return self.num_samples > 1 or self.prompts is not None

    def _refuse_what_does_nothing(self) -> None:
        if self.lm_eval_tasks:
            heeded = ("checkpoint", "device", "plugins", "lm_eval_tasks")
            others = [field.name for field in dataclasses.fields(self) if field.name not in heeded]
            self._refuse(others, "lm_eval_tasks, which are scored instead of sampling")
        if self.colorize_text is not None:
            choosing = [field.name for field in dataclasses.fields(Sampling)]
            asking = ("start", "prompts", "num_samples", "max_new_tokens", "stop", "stop_at_eot", "seed")
            self._refuse(
                (*asking, "stream", "interactive", "format", *choosing), "colorize_text, which samples nothing"
            )
            if self.colorize_output is None:
                raise UserError("colorize_text: by what? Give colorize_output=probability, rank or entropy")
        if self.interactive:
            kept = ("start", "prompts", "num_samples", "stream", "format", "show_heatmaps")
            self._refuse(kept, "interactive=true, which streams one sample for each line it reads")
        if self.prompts is not None:
            self._refuse(("start",), "prompts, which has the prompts")
            if not self.prompts.startswith(FILE):
                raise UserError(
                    f"prompts: expected {FILE}<path> of a file with a prompt a line. For one prompt: start="
                )
        if self.format == "jsonl":
            self._refuse(("colorize_output",), "format=jsonl, which has the logprob of every token instead")
            if self.stream:
                raise UserError("stream: does nothing with format=jsonl, whose lines are whole samples. Leave it out")
        if self.show_heatmaps and self.stream:
            raise UserError("stream: does nothing with show_heatmaps, which draws whole samples. Leave it out")
        if self.several and self.stream:
            raise UserError("stream: prints one sample as it comes, here there are several. Leave it out")
        if self.temperature == 0:
            self._refuse(("num_samples",), "temperature=0, which makes all samples the same")
        if not self.show_heatmaps:
            self._refuse(("out",), "show_heatmaps=false: it is where pictures go")

    def _refuse(self, names: Iterable[str], beside: str) -> None:
        """Raise UserError for the first of these options that is not at its default."""
        for field in dataclasses.fields(self):
            if field.name in names and getattr(self, field.name) != field.default:
                raise UserError(f"{field.name}: does nothing with {beside}. Leave out one of them")
