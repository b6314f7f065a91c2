"""What a person chooses when sampling: the schema of conf/sample.yaml. Imports no torch."""

from __future__ import annotations

import re
from typing import Annotated

from minigpt.errors import UserError
from minigpt.schema import NonNegativeFloat, NonNegativeInt, PositiveInt, Range, options


@options
class Sampling:
    """How the next token is chosen from the logits.

    temperature: divides the logits; 0 takes the likeliest token. top_k: only the k likeliest. top_p: only the likeliest
    that together reach this probability (nucleus; Holtzman et al. 2019, arXiv:1904.09751). With both, top_k is first.
    """

    temperature: NonNegativeFloat = 0.8
    top_k: PositiveInt | None = None
    top_p: Annotated[float, Range(gt=0, le=1)] | None = None


@options
class SampleConfig(Sampling):
    """A call of sample.py.

    checkpoint: a run's folder or a checkpoint's. start: the prompt, or FILE:<path> of one. stream: print while sampling
    (one sample; several are sampled together and printed at the end). plugins: modules that register the model's parts.
    """

    checkpoint: str | None = None
    start: str = "\n"
    num_samples: PositiveInt = 1
    max_new_tokens: PositiveInt = 200
    seed: NonNegativeInt = 0
    device: str = "auto"
    stream: bool = True
    plugins: list[str] = ()  # type: ignore[assignment]

    def __post_init__(self):
        if self.checkpoint is None:
            raise UserError("checkpoint: which one? Give a run's folder, such as checkpoint=out/<run>")


def verbatim(arguments: list[str], keys: tuple[str, ...] = ("start", "checkpoint")) -> list[str]:
    """Quote the values of ``keys`` on a command line for Hydra, so that text means itself.

    Hydra would trim ``start=The `` and read commas, parentheses and ``${`` in a prompt as its own grammar.
    A value that is in quotes already is left to Hydra.
    """
    return [_quoted(argument, keys) for argument in arguments]


def _quoted(argument: str, keys: tuple[str, ...]) -> str:
    key, equals, value = argument.partition("=")
    if not equals or key not in keys or (len(value) > 1 and value[0] == value[-1] and value[0] in "'\""):
        return argument
    if key == "checkpoint" and value == "null":
        return argument
    escaped = re.sub(r"(\\*)\$\{", r"\1\1\\${", value)  # OmegaConf's: text, no interpolation
    return f"{key}={_in_quotes(escaped)}"


def _in_quotes(value: str) -> str:
    """Hydra's quoted string: a backslash counts as an escape only right before a quote (or at the end)."""
    out, run = [], 0
    for character in value:
        if character == '"':
            out.append("\\" * run + "\\")  # double the run before a quote, and escape the quote
        out.append(character)
        run = run + 1 if character == "\\" else 0
    return '"' + "".join(out) + "\\" * run + '"'
