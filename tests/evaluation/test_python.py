"""minigpt.evaluate: what lies in a folder and what is in memory score the same."""

from __future__ import annotations

import pytest

import minigpt


def test_a_model_in_memory_scores_as_its_checkpoint_does(checkpoint, tasks):
    here = minigpt.evaluate(minigpt.load(checkpoint), ["my_choice", "my_text"], include_path=str(tasks))
    there = minigpt.evaluate(checkpoint, ["my_choice", "my_text"], include_path=str(tasks))
    assert here == there
    assert {"my_choice.acc", "my_text.bits_per_byte"} <= set(here)


def test_a_mistake_is_the_commands_sentence(checkpoint, tasks):
    with pytest.raises(minigpt.UserError, match=r"limt.*Did you mean 'limit'"):
        minigpt.evaluate(checkpoint, "my_choice", limt=3)
    with pytest.raises(minigpt.UserError, match="has no tokenizer"):
        minigpt.evaluate(minigpt.build(model={"vocab_size": 9}), "my_choice")
