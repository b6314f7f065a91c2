"""The seams variants hang on: what layers hand on and record, what they share, and what rewrites a built model."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from minigpt import registry
from minigpt.components.linear.base import LinearMap
from minigpt.cost import Work
from minigpt.errors import UserError
from minigpt.model import GPT, ModelSpec
from minigpt.model.checkpoint import load_checkpoint, start_from
from minigpt.plugins import load_plugins, unloaded_afterwards
from minigpt.schema import plain
from minigpt.testing import make_spec
from minigpt.transforms.base import Transform
from tests.model.checkpoints import save

TOKENS = torch.arange(48).view(3, 16) % 50


@pytest.fixture(scope="module", autouse=True)
def seams():
    """The plugin's names, for this file alone."""
    with unloaded_afterwards():
        load_plugins(["tests.seams"])
        yield


def total_loss(model: GPT) -> torch.Tensor:
    """Cross-entropy and every recorded loss with its weight: what training makes smaller."""
    out = model(TOKENS[:, :-1])
    loss = F.cross_entropy(out.logits.flatten(0, 1), TOKENS[:, 1:].flatten())
    return loss + sum(out.weights[name] * value for name, value in out.losses.items())


def gradients(model: GPT) -> dict[str, torch.Tensor]:
    model.train()
    total_loss(model).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


# What layers hand on


def test_a_part_whose_provider_is_missing_is_refused_when_the_model_is_built():
    spec = make_spec(attention="causal")
    second = dataclasses.replace(spec.blocks[1], parts=spec.blocks[1].parts | {"mlp": registry.spec("mlp", "needy")})
    with pytest.raises(UserError, match="layer 1: mlp=needy needs 'first_values', which nothing before it provides"):
        GPT.on_meta(dataclasses.replace(spec, blocks=(spec.blocks[0], second)))


def test_later_layers_read_what_the_first_one_provides():
    model = GPT.create(make_spec(attention="value_residual", n_layer=3)).eval()
    before = model(TOKENS).logits
    with torch.no_grad():
        model.blocks[2].attention.share.fill_(0.0)
    assert not torch.equal(before, model(TOKENS).logits)
    assert [block.attention.share is None for block in model.blocks] == [True, False, False]


def test_layers_that_share_keys_and_values_keep_one_cache():
    shared, own = (GPT.on_meta(make_spec(attention=name, n_layer=3)) for name in ("shared_kv", "causal"))
    work = Work(1, 1, 16)
    assert 3 * shared.cost(work).total.state_bits == own.cost(work).total.state_bits
    assert shared.new_state(1).bits * 3 == own.new_state(1).bits


# What they record


@pytest.mark.parametrize(
    "parts", [{"attention": "value_residual"}, {"attention": "shared_kv"}, {"mlp": "tiny_moe"}], ids=str
)
@pytest.mark.parametrize("compiled", [False, True])
def test_activation_checkpointing_gives_the_same_loss_and_gradients(parts, compiled):
    spec = make_spec(n_layer=3, dropout=0.0 if compiled else 0.1, **parts)  # compiled dropout draws in another order
    plainly, again = GPT.create(spec), GPT.create(spec)
    again.checkpoint_activations = True
    if compiled:
        torch._dynamo.reset()
        again.compile(backend="aot_eager")
    torch.manual_seed(0)
    wanted = gradients(plainly)
    torch.manual_seed(0)
    for name, gradient in gradients(again).items():
        torch.testing.assert_close(gradient, wanted[name], atol=1e-6, rtol=1e-5, msg=name)


@pytest.mark.parametrize("checkpointed", [False, True])
def test_a_recorded_loss_counts_once_and_metrics_keep_their_layer(checkpointed):
    model = GPT.create(make_spec(mlp="tiny_moe", n_layer=3)).train()
    model.checkpoint_activations = checkpointed
    out = model(TOKENS)
    assert out.weights == {"balance": 0.01}
    assert 3.0 < out.losses["balance"].item() * 0.5 < 4.5  # 1 per layer when balanced, two of four experts each
    assert sorted(out.metrics) == ["expert_load.0", "expert_load.1", "expert_load.2"]
    assert torch.allclose(out.metrics["expert_load.1"].sum(), torch.tensor(2.0))


def test_an_output_holds_what_a_task_asks_for_and_nothing_else():
    model = GPT.create(make_spec(head="two_tokens"))
    assert model(TOKENS).shared == {}
    model.return_also({"second_logits"})
    assert model(TOKENS).shared["second_logits"].shape == (3, 16, 50)
    with pytest.raises(UserError, match="no part of this model provides 'third_logits'; provided: second_logits"):
        model.return_also({"third_logits"})


# Streams


def test_streams_of_another_form_than_the_model_s_are_refused():
    spec = make_spec(residual="two_streams")
    GPT.on_meta(spec)
    one = dataclasses.replace(
        spec.blocks[1], parts=spec.blocks[1].parts | {"residual": registry.spec("residual", "add")}
    )
    with pytest.raises(
        UserError, match="residual=add works on one stream, the model's residual=two_streams on two streams"
    ):
        GPT.on_meta(dataclasses.replace(spec, blocks=(spec.blocks[0], one)))


# Sites


def test_a_site_takes_its_own_choice_and_every_other_the_block_s():
    model = GPT.create(make_spec(sites={"linear": {"down": "ternary"}, "norm": {"final": "layernorm"}}))
    kinds = {m.site: m.name for m in model.modules() if isinstance(m, LinearMap)}
    assert kinds == {
        "q": "linear",
        "k": "linear",
        "v": "linear",
        "o": "linear",
        "gate": "linear",
        "up": "linear",
        "down": "ternary",
    }
    assert model.final_norm.name == "layernorm"
    assert model.blocks[0].mlp_norm.name == "rmsnorm"


def test_what_is_embedded_is_normed_where_a_norm_is_chosen_for_it():
    bare = GPT.create(make_spec(position="learned"))
    assert bare.embedding_norm is None
    model = GPT.create(make_spec(position="learned", sites={"norm": {"embedding": "layernorm"}}))
    seen = []
    model.blocks[0].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    model(TOKENS)
    table, places = model.embedding.weight[TOKENS], model.position.weight[:16]
    torch.testing.assert_close(seen[0], F.layer_norm(table + places, (32,), eps=1e-5))
    assert model.cost(Work(1, 1, 1)).parts["embedding_norm"].params == 32
    assert model.parameter_count() == bare.parameter_count() + 32


def test_a_site_that_nothing_asks_for_is_refused_with_the_list():
    with pytest.raises(
        UserError, match=r"sites.linear.donw: no part of this model asks for linear 'donw'.*\n.*down, gate, k"
    ):
        GPT.on_meta(make_spec(sites={"linear": {"donw": "ternary"}}))


def test_a_head_of_its_own_is_a_site_and_a_tied_one_is_not():
    sites = {"linear": {"head": "ternary"}}
    assert GPT.on_meta(make_spec(tie_embeddings=False, sites=sites)).head.linear.name == "ternary"
    assert GPT.on_meta(make_spec(tie_embeddings=False, linear="ternary")).head.linear.name == "linear"
    with pytest.raises(UserError, match=r"sites.linear.head: no part"):
        GPT.on_meta(make_spec(sites=sites))


# Sharing


@pytest.mark.parametrize(
    ("share", "owners"),
    [
        ({"block": "cycle"}, [0, 0, 0, 0]),
        ({"block": "cycle", "distinct": 2}, [0, 1, 0, 1]),
        ({"block": "run", "distinct": 2}, [0, 0, 2, 2]),
        ({"block": "mirror"}, [0, 1, 1, 0]),
    ],
)
def test_shared_blocks_are_built_once_counted_once_and_read_each_time(share, owners):
    alone, shared = GPT.create(make_spec(n_layer=4)), GPT.create(make_spec(n_layer=4, share=share))
    assert [shared.blocks[owner] is block for owner, block in zip(owners, shared.blocks, strict=True)] == [True] * 4
    work = Work(2, 16, 16)
    cost, apart = shared.cost(work).total, alone.cost(work).total
    assert cost.params == shared.parameter_count() == sum(p.numel() for p in shared.parameters())
    assert cost.weights_read == apart.weights_read
    assert cost.macs == apart.macs
    assert cost.state_bits == apart.state_bits == shared.new_state(2).bits * 16 // 32


@pytest.mark.parametrize("part", ["attention", "mlp"])
def test_shared_parts_leave_norms_apart_and_train(part):
    model = GPT.create(make_spec(n_layer=4, share={part: "run", "distinct": 2}))
    first, second = model.blocks[0], model.blocks[1]
    assert getattr(first, part) is getattr(second, part)
    assert getattr(first, f"{part}_norm") is not getattr(second, f"{part}_norm")
    assert model.cost(Work(1, 16, 16)).total.params == model.parameter_count()
    assert all(gradient is not None for gradient in gradients(model).values())


def test_layers_that_share_a_part_must_describe_it_alike():
    spec = make_spec(n_layer=2, share={"attention": "cycle"})
    other = dataclasses.replace(
        spec.blocks[1], parts=spec.blocks[1].parts | {"softmax": registry.spec("softmax", "consmax")}
    )
    with pytest.raises(
        UserError, match=r"share.attention: layers 0 and 1 share one attention, but softmax is softmax in one"
    ):
        GPT.on_meta(dataclasses.replace(spec, blocks=(spec.blocks[0], other)))


@pytest.mark.parametrize("name", ["value_residual", "shared_kv"])
@pytest.mark.parametrize("share", [{"block": "cycle"}, {"attention": "run", "distinct": 2}, {"block": "mirror"}])
def test_a_part_that_would_play_another_role_in_a_later_layer_is_not_shared_with_it(name, share):
    (part,) = set(share) & {"block", "attention"}
    with pytest.raises(UserError, match=rf"share\.{part}: attention={name} of layer 0 does something else"):
        GPT.on_meta(make_spec(n_layer=4, attention=name, share=share))
    GPT.on_meta(make_spec(n_layer=4, attention=name, share={"mlp": "cycle"}))


def test_a_shared_model_survives_its_checkpoint(tmp_path):
    model = GPT.create(make_spec(n_layer=4, share={"block": "mirror"})).eval()
    loaded = load_checkpoint(save(tmp_path / "it", model)).model
    assert torch.equal(loaded(TOKENS).logits, model(TOKENS).logits)


# Transforms


def with_transform(spec: ModelSpec, *nodes: dict) -> ModelSpec:
    return dataclasses.replace(spec, transforms=tuple(registry.spec("transform", node) for node in nodes))


def test_a_low_rank_adapter_starts_from_a_checkpoint_trains_alone_and_is_loaded_with_it(tmp_path):
    base = GPT.create(make_spec(bias=True)).eval()
    parent = save(tmp_path / "base", base)
    spec = with_transform(base.spec, {"name": "tiny_lora", "rank": 3, "sites": ["q", "down"]})
    adapted = GPT.create(spec).eval()
    filled = start_from(adapted, parent)
    new = {name for name, _ in adapted.named_parameters()} - filled
    assert {name.rsplit(".", 1)[1] for name in new} == {"a", "b"}
    assert torch.equal(adapted(TOKENS).logits, base(TOKENS).logits)  # b starts at zero
    assert adapted.trainable_count() == sum(p.numel() for n, p in adapted.named_parameters() if n in new)
    total_loss(adapted).backward()
    assert {n for n, p in adapted.named_parameters() if p.grad is not None} == new
    with torch.no_grad():
        for name in new:
            adapted.get_parameter(name).add_(0.1)
    loaded = load_checkpoint(save(tmp_path / "adapted", adapted))
    assert plain(loaded.spec) == plain(spec)
    assert torch.equal(loaded.model(TOKENS).logits, adapted(TOKENS).logits)
    assert not loaded.model.blocks[0].attention.q.base.weight.requires_grad
    assert adapted.cost(Work(1, 16, 16)).total.params == adapted.parameter_count()


def test_an_int8_format_converts_a_checkpoint_and_cannot_start_from_nothing(tmp_path):
    base = GPT.create(make_spec()).eval()
    spec = with_transform(base.spec, {"name": "tiny_int8"})
    with pytest.raises(UserError, match=r"tiny_int8 rewrites weights that are there already.*init_from="):
        GPT.create(spec)
    model = GPT.create(spec, initialise=False).eval()
    start_from(model, save(tmp_path / "base", base))
    torch.testing.assert_close(model(TOKENS).logits, base(TOKENS).logits, atol=0.05, rtol=0.05)
    loaded = load_checkpoint(save(tmp_path / "int8", model)).model
    assert torch.equal(loaded(TOKENS).logits, model(TOKENS).logits)
    read = model.cost(Work(1, 1, 16)).total.weights_read
    levels = sum(m.levels.numel() for m in model.modules() if hasattr(m, "levels"))
    assert sum(n for name, n in read.items() if name.startswith("int8/g")) == levels


def test_a_conversion_that_loses_weights_is_refused(tmp_path):
    class Loses(Transform):
        def __init__(self, config):
            pass

        def apply(self, model):
            pass

        def convert(self, weights):
            return {name: tensor for name, tensor in weights.items() if "attention.q" not in name}

    registry.register("transform", "loses")(Loses)
    model = GPT.create(with_transform(make_spec(), {"name": "loses"}))
    with pytest.raises(UserError, match=r"blocks.0.attention.q.weight gets no value from the conversion of \[loses\]"):
        start_from(model, save(tmp_path / "base", GPT.create(make_spec())))


def test_transforms_that_are_not_the_checkpoint_s_and_more_are_refused(tmp_path):
    spec = with_transform(make_spec(), {"name": "tiny_lora"})
    parent = save(tmp_path / "adapted", GPT.create(spec))
    with pytest.raises(UserError, match=r"transforms: .* has \[tiny_lora\], this model \[\]"):
        start_from(GPT.create(make_spec()), parent)
