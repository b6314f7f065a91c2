"""What careless parts do is found when their model is built."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from minigpt import registry
from minigpt.components.attention.causal import CausalAttention
from minigpt.components.base import Part
from minigpt.components.embedding.base import Embedding
from minigpt.components.layout.pre_norm import PreNorm
from minigpt.components.mlp.base import FeedForward
from minigpt.cost import Cost
from minigpt.errors import UserError
from minigpt.model import GPT
from minigpt.schema import NonNegativeFloat, options
from minigpt.testing.specs import make_spec
from minigpt.transforms.base import Transform

TOKENS = torch.arange(48).view(3, 16) % 50


@pytest.fixture(autouse=True)
def own_names():
    with registry.forgotten_afterwards():
        yield


class Square(FeedForward):
    """One square map."""

    def __init__(self, config, ctx):
        super().__init__()
        self.provided_before = ctx.provided
        self.map = ctx.linear(ctx.d_model, ctx.d_model, site="map")

    def forward(self, x, call):
        return self.map(x)

    def cost(self, work):
        return Cost(parts={"map": self.map.cost(work)})


def named(axis: str, cls: type) -> None:
    registry.register(axis, "careless")(cls)


# What parts hand on


def test_a_part_is_no_provider_of_its_own():
    class Own(Square):
        needs = provides = frozenset({"h"})

    named("mlp", Own)
    with pytest.raises(UserError, match=r"layer 0: mlp=careless needs 'h'.* Provided there: nothing"):
        GPT.on_meta(make_spec(mlp="careless"))


def test_the_mlp_of_a_block_reads_from_its_attention_and_not_the_other_way_round():
    class Giving(CausalAttention):
        provides = frozenset({"h"})

    class Taking(CausalAttention):
        needs = frozenset({"h"})

    class Giver(Square):
        provides = frozenset({"h"})

    registry.register("attention", "giving")(Giving)
    registry.register("attention", "taking")(Taking)
    named("mlp", Giver)
    registry.register("mlp", "square")(Square)
    assert [block.mlp.provided_before for block in GPT.on_meta(make_spec(attention="giving", mlp="square")).blocks] == [
        frozenset({"h"})
    ] * 2
    with pytest.raises(UserError, match="layer 0: attention=taking needs 'h'"):
        GPT.on_meta(make_spec(attention="taking", mlp="careless"))


def test_a_need_nobody_declared_is_named():
    class Undeclared(Square):
        def forward(self, x, call):
            return self.map(x) + call.need("h")

    named("mlp", Undeclared)
    with pytest.raises(UserError, match=r"a part needs 'h', which nothing has provided by then\. Provided: nothing"):
        GPT.create(make_spec(mlp="careless"))(TOKENS)


# What they record


def recording(**what):
    class Recording(Square):
        def forward(self, x, call):
            y = self.map(x)
            for kind, of in what.items():
                call.record("it", **{kind: of(y)})
            return y

    named("mlp", Recording)
    return GPT.create(make_spec(mlp="careless"))


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ({"loss": lambda y: y.mean((0, 2))}, r"loss 'it': expected a scalar tensor, got \[16\]"),
        ({"loss": lambda y: 0.5}, "loss 'it': expected a scalar tensor, got float"),
        ({"metric": lambda y: y.mean(0)}, r"metric 'it': expected a tensor, a scalar or a list, got \[16, 32\]"),
    ],
)
def test_what_is_recorded_has_the_shape_that_can_be_logged(what, message):
    with pytest.raises(UserError, match=message):
        recording(**what)(TOKENS)


def test_a_metric_of_a_layer_has_one_value():
    class Twice(Square):
        def forward(self, x, call):
            call.record("it", metric=x.mean())
            call.record("it", metric=x.sum())
            return x

    named("mlp", Twice)
    with pytest.raises(UserError, match=r"metric 'it\.0' is recorded twice"):
        GPT.create(make_spec(mlp="careless"))(TOKENS)


def test_layers_that_weigh_one_loss_differently_are_told_apart():
    class Weighed(Square):
        @options
        class Config:
            weight: NonNegativeFloat = 0.1

        def __init__(self, config, ctx):
            super().__init__(config, ctx)
            self.weight = config.weight

        def forward(self, x, call):
            call.record("it", loss=x.mean(), weight=self.weight)
            return x

    named("mlp", Weighed)
    spec = make_spec(mlp="careless")
    other = spec.blocks[1].parts | {"mlp": registry.spec("mlp", {"name": "careless", "weight": 0.5})}
    spec = dataclasses.replace(spec, blocks=(spec.blocks[0], dataclasses.replace(spec.blocks[1], parts=other)))
    with pytest.raises(UserError, match=r"loss 'it' is recorded with two weights, 0\.1 and 0\.5"):
        GPT.create(spec)(TOKENS)


# What they hold


def with_mask(self, ctx):
    self.register_buffer("mask", torch.tril(torch.ones(ctx.block_size, ctx.block_size)), persistent=False)


def with_batch_norm(self, ctx):
    self.inner = nn.BatchNorm1d(ctx.d_model, affine=False)


def with_layer_norm(self, ctx):
    self.inner = nn.LayerNorm(ctx.d_model)


def with_attribute(self, ctx):
    self.table = torch.arange(ctx.d_model)


def with_one_weight_twice(self, ctx):
    self.second = ctx.linear(ctx.d_model, ctx.d_model, site="second")
    self.second.weight = self.map.weight


@pytest.mark.parametrize(
    ("add", "message"),
    [
        (with_mask, "blocks.0.mlp.mask: Holding has no init_buffers to fill this buffer"),
        (with_batch_norm, "blocks.0.mlp.inner: BatchNorm1d is no Part, so nothing says how its running_mean"),
        (with_layer_norm, "blocks.0.mlp.inner: LayerNorm is no Part, so nothing says how its weight, bias start"),
        (with_attribute, "blocks.0.mlp.table: a tensor as a plain attribute is left behind"),
        (with_one_weight_twice, "blocks.0.mlp.second.weight: is the same parameter as blocks.0.mlp.map.weight"),
    ],
)
def test_numbers_that_nothing_would_fill_are_refused(add, message):
    class Holding(Square):
        def __init__(self, config, ctx):
            super().__init__(config, ctx)
            add(self, ctx)

    named("mlp", Holding)
    with pytest.raises(UserError, match=message):
        GPT.on_meta(make_spec(mlp="careless"))


def test_a_saved_buffer_may_wait_for_weights_only_where_there_will_be_some():
    class Levels(Part):
        def __init__(self):
            super().__init__()
            self.register_buffer("levels", torch.empty(3, dtype=torch.int8))

    class Adds(Transform):
        def __init__(self, config):
            pass

        def apply(self, model):
            model.blocks[0].extra = Levels()

    class Converts(Adds):
        needs_weights = True

    registry.register("transform", "adds")(Adds)
    registry.register("transform", "converts")(Converts)
    GPT.on_meta(make_spec(transforms=[{"name": "converts"}]))
    with pytest.raises(UserError, match=r"blocks.0.extra.levels: Levels has no init_buffers"):
        GPT.on_meta(make_spec(transforms=[{"name": "adds"}]))


# What transforms leave


def test_a_tied_head_scores_with_the_embedding_that_a_transform_put_there():
    class Doubled(Embedding):
        def __init__(self, old):
            super().__init__()
            self.old = old

        def forward(self, tokens, call, state=None):
            return self.old(tokens, call, state)

        def unembed(self, x):
            return 2 * self.old.unembed(x)

    class Doubles(Transform):
        def __init__(self, config):
            pass

        def apply(self, model):
            model.embedding = Doubled(model.embedding)

    class Untells(Doubles):
        def apply(self, model):
            model.embedding = Square(None, model.spec.context(0))

    registry.register("transform", "doubles")(Doubles)
    registry.register("transform", "untells")(Untells)
    once, twice = (GPT.create(make_spec(transforms=t)).eval() for t in ([], [{"name": "doubles"}]))
    twice.load_state_dict({k.replace("embedding.", "embedding.old."): v for k, v in once.state_dict().items()})
    torch.testing.assert_close(twice(TOKENS).logits, 2 * once(TOKENS).logits)
    with pytest.raises(UserError, match="cannot score the vocabulary"):
        GPT.on_meta(make_spec(transforms=[{"name": "untells"}]))


# What layers share


class Macaron(PreNorm):
    """A block with an MLP before and one after."""

    def __init__(self, config, ctx):
        super().__init__(config, ctx)
        self.before = ctx.build("mlp")


def test_a_layout_with_two_parts_of_an_axis_shares_each_with_its_like():
    registry.register("layout", "macaron")(Macaron)
    first, second = GPT.on_meta(make_spec(layout="macaron", share={"mlp": "cycle"})).blocks
    assert second.mlp is first.mlp
    assert second.before is first.before
    assert first.mlp is not first.before


def test_a_part_without_its_like_in_the_other_layer_cannot_be_shared():
    registry.register("layout", "macaron")(Macaron)
    spec = make_spec(share={"mlp": "cycle"})
    other = spec.blocks[1].parts | {"layout": registry.spec("layout", "macaron")}
    spec = dataclasses.replace(spec, blocks=(spec.blocks[0], dataclasses.replace(spec.blocks[1], parts=other)))
    with pytest.raises(UserError, match=r"share.mlp: layer 1 has more of it than layer 0"):
        GPT.on_meta(spec)


# What is ignored


@pytest.mark.parametrize(("default", "block"), [("learned", "nope"), ("nope", "learned")])
def test_a_layer_cannot_choose_what_is_added_to_the_embedding(default, block):
    spec = make_spec(position=default)
    other = spec.blocks[1].parts | {"position": registry.spec("position", block)}
    other_block = dataclasses.replace(spec.blocks[1], label="b", parts=other)
    with pytest.raises(UserError, match=rf"position={block} would be ignored: .* the default block, {default}, what"):
        GPT.on_meta(dataclasses.replace(spec, blocks=(spec.blocks[0], other_block)))
