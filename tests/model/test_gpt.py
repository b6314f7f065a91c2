"""The GPT as a whole: which choices it honours, and where its tables end."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from minigpt.errors import UserError
from minigpt.model import GPT, ModelSpec
from minigpt.testing import make_spec


def with_second_layer(spec: ModelSpec, **axes) -> ModelSpec:
    return dataclasses.replace(spec, blocks=(spec.blocks[0], spec.blocks[1].varied("other", axes, "blocks.other")))


@pytest.mark.parametrize(
    ("default", "other"),
    [
        ("learned", {"position": "nope"}),  # the learned table is added to the stream of every layer
        ("learned", {"attention": "identity", "position": "alibi"}),
        ("rope", {"position": "learned"}),
        ("rope", {"attention": "identity", "position": "alibi"}),
    ],
)
def test_a_layer_s_position_that_would_have_no_effect_is_refused(default, other):
    with pytest.raises(UserError, match=f"position={other['position']} would be ignored"):
        GPT.on_meta(with_second_layer(make_spec(position=default), **other))


@pytest.mark.parametrize(
    ("default", "other"), [("rope", "nope"), ("rope", "alibi"), ("nope", "rope"), ("learned", "rope")]
)
def test_layers_may_differ_in_positions_that_act_inside_attention(default, other):
    GPT.on_meta(with_second_layer(make_spec(position=default), position=other))


def test_a_state_does_not_reach_beyond_the_position_tables():
    model = GPT.create(make_spec(block_size=16))
    with pytest.raises(ValueError, match="capacity 17 is more than block_size 16"):
        model.new_state(1, capacity=17)
    with pytest.raises(ValueError, match="more than the 16"):
        model(torch.zeros(1, 17, dtype=torch.long))


def test_activation_checkpointing_changes_neither_loss_nor_a_cached_call():
    model = GPT.create(make_spec()).train()
    tokens = torch.randint(50, (2, 8), generator=torch.Generator().manual_seed(0))
    expected = model(tokens).logits
    model.checkpoint_activations = True
    torch.testing.assert_close(model(tokens).logits, expected)
    state = model.new_state(2)
    cached = torch.cat([model(part, state).logits for part in (tokens[:, :5], tokens[:, 5:])], dim=1)
    torch.testing.assert_close(cached, expected, atol=1e-5, rtol=1e-4)
