"""The model room: the GPT, what defines it, and its checkpoints."""

from minigpt.model.gpt import GPT, DecodingState
from minigpt.model.spec import ModelSpec, resolve, spec_of_run

__all__ = ["GPT", "DecodingState", "ModelSpec", "resolve", "spec_of_run"]
