"""The model room: the GPT, what defines it, and its checkpoints."""

from minigpt.model.checkpoint import read_spec
from minigpt.model.gpt import GPT, DecodingState, Output
from minigpt.model.spec import ModelSpec, resolve

__all__ = ["GPT", "DecodingState", "ModelSpec", "Output", "read_spec", "resolve"]
