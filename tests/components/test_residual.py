"""Residuals beside the formulas of their papers, in double precision, and what they refuse."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from minigpt import registry
from minigpt.errors import UserError
from minigpt.model import GPT
from minigpt.testing import make_spec
from minigpt.testing.models import batch, moved
from tests.components.parts import part, values

SHAPE = (2, 5, 32)


def joined(name, x, y, **options):
    residual = part("residual", name, **options).double()
    return residual, residual.write(x.double(), y.double())


def test_rezero_and_layerscale_scale_what_joins():
    x, y = values(*SHAPE).double(), values(*SHAPE).flip(0).double()
    for name in ("rezero", "layerscale"):
        residual, found = joined(name, x, y)
        torch.testing.assert_close(found, x + residual.scale * y)


@pytest.mark.parametrize("name", ["rezero", "confidence", "hyper_connections"])
def test_a_block_starts_as_its_paper_says(name):
    """rezero: as the identity. confidence, hyper-connections: as plain addition."""
    tokens, norm = batch(2, 8), {"name": "rmsnorm", "eps": 1e-20}  # n equal streams close as n times the one
    plain, model = (GPT.create(make_spec(residual=each, norm=norm)).eval() for each in ("add", name))
    with torch.no_grad():
        if name == "rezero":
            found = model.head(model.final_norm(model.embedding(tokens, None)), None)
            torch.testing.assert_close(model(tokens).logits, found)
        else:
            torch.testing.assert_close(model(tokens).logits, plain(tokens).logits, atol=1e-5, rtol=1e-4)


def test_slerp_turns_by_a_share_of_the_angle_in_the_plane_of_both():
    x, y = values(*SHAPE).double(), values(*SHAPE).flip(0).double()
    _, found = joined("slerp", x, y, share_init=0.25, learned=False)
    unit = lambda v: v / v.norm(dim=-1, keepdim=True)  # noqa: E731
    angle = lambda a, b: torch.arccos((unit(a) * unit(b)).sum(-1))  # noqa: E731
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(2, 5).double(), atol=1e-5, rtol=0)
    torch.testing.assert_close(angle(x, found), 0.25 * angle(x, y), atol=1e-5, rtol=0)
    torch.testing.assert_close(angle(found, y), 0.75 * angle(x, y), atol=1e-5, rtol=0)


@pytest.mark.parametrize("other", ["zero", "same", "opposite"])
def test_slerp_is_finite_where_no_angle_is(other):
    x = values(*SHAPE)
    y = {"zero": torch.zeros_like(x), "same": x.clone(), "opposite": -x}[other].requires_grad_()
    _, found = joined("slerp", x, y)
    found.sum().backward()
    assert found.isfinite().all()
    assert y.grad.isfinite().all()
    if other == "same":
        torch.testing.assert_close(found, torch.nn.functional.normalize(x.double(), dim=-1), atol=1e-5, rtol=0)


def test_depth_attention_starts_as_the_mean_and_weighs_by_the_normed_outputs():
    residual = part("residual", "depth_attention").double()
    stream, update = values(2, 5, 3, 32).double(), values(2, 5, 32).double()
    residual.follow(2)
    weights = torch.stack([
        (residual.query * (v / (v.square().mean(-1, keepdim=True) + 1e-6).sqrt())).sum(-1).exp()
        for v in stream.unbind(2)
    ])  # fmt: skip
    expected = sum(w[..., None] * v for w, v in zip(weights / weights.sum(0), stream.unbind(2), strict=True))
    torch.testing.assert_close(residual.read(stream), expected)
    torch.testing.assert_close(residual.write(stream, update)[:, :, -1], update)
    with torch.no_grad():
        residual.query.zero_()
    torch.testing.assert_close(residual.read(stream), stream.mean(dim=2))


def test_depth_attention_reads_every_earlier_output_and_the_first_reader_learns_nothing():
    def found(layout):
        model = GPT.on_meta(make_spec(residual="depth_attention", layout=layout))
        residuals = [r for block in model.blocks for r in (block.attention_residual, block.mlp_residual)]
        return model, [r.earlier for r in (*residuals, model.residual)]

    assert found("parallel")[1] == [0, 0, 2, 2, 4]
    model, earlier = found("pre_norm")
    assert earlier == [0, 1, 2, 3, 4]
    assert model.blocks[0].attention_residual.query is None
    assert model.blocks[0].mlp_residual.query is not None


def test_blocks_that_are_shared_cannot_read_lists_of_different_lengths():
    with pytest.raises(UserError, match=r"stands after 0 and after 2 sub-layers.*Share no blocks"):
        GPT.on_meta(make_spec(residual="depth_attention", share={"block": "run"}))


@pytest.mark.parametrize("dynamic", [False, True])
def test_hyper_connections_are_the_paper_s_matrix(dynamic):
    """[h, H'] from HC = [[0, B], [A_m, A_r]], token by token: h = A_m^T H, H' = A_r^T H + B^T f(h)."""
    n = 4
    residual = part("residual", "hyper_connections", dynamic=dynamic).double()
    stream, update = values(1, 3, n, 32).double(), values(1, 3, 32).double()
    for t in range(3):
        hidden, a, b = stream[0, t], residual.a, residual.b[:, 0]
        if dynamic:
            normed = hidden / (hidden.square().mean(-1, keepdim=True) + 1e-6).sqrt()
            a = a + residual.a_scale * torch.tanh(normed @ residual.a_weight.T)
            b = b + residual.b_scale * torch.tanh(normed @ residual.b_weight[0])
        a_m, a_r = a[:, :1], a[:, 1:]
        torch.testing.assert_close(residual.read(stream)[0, t], (a_m.T @ hidden)[0])
        expected = a_r.T @ hidden + b[:, None] @ update[0, t][None]
        torch.testing.assert_close(residual.write(stream, update)[0, t], expected)


def test_hyper_connections_start_with_the_matrix_of_the_paper():
    """B = ones, A_m = e_(k mod n) for the k-th sub-layer, A_r = identity, nothing dynamic."""
    model = GPT.create(make_spec(n_layer=3, residual="hyper_connections"))
    sublayers = [r for b in model.blocks for r in (b.attention_residual, b.mlp_residual)]
    for k, residual in enumerate(sublayers):
        picked = torch.zeros(4)
        picked[k % 4] = 1.0
        assert torch.equal(residual.a, torch.cat([picked[:, None], torch.eye(4)], dim=1))
        assert (residual.b == 1).all()
        assert (residual.a_weight == 0).all()


@pytest.mark.parametrize("name", ["hyper_connections", "depth_attention"])
def test_several_streams_cannot_be_normalised_as_one(name):
    with pytest.raises(UserError, match=rf"post_norm normalises the stream, and residual={name} works on"):
        GPT.on_meta(make_spec(residual=name, layout="post_norm"))


def test_a_share_that_is_not_learned_is_no_parameter_and_none_per_channel():
    assert not list(part("residual", "lerp", learned=False).parameters())
    with pytest.raises(UserError, match=r"residual\.per_channel: .*learned=true"):
        part("residual", "lerp", learned=False, per_channel=True)


@pytest.mark.parametrize("name", registry.names("residual"))
def test_what_stands_around_the_blocks_owns_no_parameter_it_does_not_use(name):
    model = GPT.on_meta(make_spec(residual=name))
    sizes = [p.numel() for p in model.residual.parameters()]
    assert sizes == ([32] if name == "depth_attention" else [])


@pytest.mark.parametrize("name", registry.names("residual"))
def test_it_joins_narrow_updates_and_single_tokens(name):
    """bf16 and fp16 streams, as in a model of that dtype, and zero rows."""
    spec = make_spec(residual=name)
    for dtype in (torch.bfloat16, torch.float16):
        model = GPT.create(spec).to(dtype).eval()
        with torch.no_grad():
            assert model(batch(1, 1)).logits.isfinite().all()
            assert model(batch(2, 8)[:0]).logits.shape == (0, 8, 50)
    assert math.isfinite(model(batch(2, 8)).logits.float().sum().item())


# Values of the first layer


def test_values_are_mixed_with_those_of_the_first_layer():
    """Beside a model whose attentions are given the mixed values by hand."""
    model = moved(GPT.create(make_spec(n_layer=3, residual="value_residual"))).double().eval()
    plain = GPT.create(make_spec(n_layer=3)).double().eval()
    plain.load_state_dict({n: t for n, t in model.state_dict().items() if "value_mix" not in n})
    assert [block.attention.value_mix.share is None for block in model.blocks] == [True, False, False]
    first = []
    for block, mixing in zip(plain.blocks, model.blocks, strict=True):

        def project(x, call, attention=block.attention, share=mixing.attention.value_mix.share):
            q, k, v = type(attention).project(attention, x, call)
            if not first:
                first.append(v)
            return q, k, v if share is None else (1 - share) * v + share * first[0]

        block.attention.project = project
    tokens = batch(2, 12)
    torch.testing.assert_close(model(tokens).logits, plain(tokens).logits)


def test_values_are_mixed_beside_another_residual_and_cost_no_cache():
    model = GPT.on_meta(make_spec(residual="layerscale", sites={"residual": {"values": "value_residual"}}))
    assert model.blocks[1].attention.value_mix.share.numel() == 1
    assert model.blocks[1].mlp_residual.name == "layerscale"
    assert model.new_state(2).bits == GPT.on_meta(make_spec()).new_state(2).bits


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"residual": "value_residual", "attention": "identity"}, r"attention=identity hands none over"),
        (
            {"residual": "value_residual", "attention": "linear"},
            r"attention=linear hands none over\. Choose attention=",
        ),
        ({"residual": "value_residual", "layout": "mlp_only"}, r"layout=mlp_only hands none over"),
        ({"sites": {"residual": {"mlp": "value_residual"}}}, r"sites\.residual\.mlp: value_residual acts on values"),
        ({"residual": "value_residual", "share": {"attention": "run"}}, r"share\.attention: .* does something else"),
    ],
)
def test_values_that_nobody_mixes_are_refused(given, message):
    with pytest.raises(UserError, match=message):
        GPT.on_meta(make_spec(**given))


def test_values_of_another_shape_cannot_be_mixed():
    spec = make_spec(residual="value_residual")
    narrow = dataclasses.replace(spec.blocks[1].parts["attention"].options, n_kv_head=2)
    parts = dict(spec.blocks[1].parts)
    parts["attention"] = dataclasses.replace(parts["attention"], options=narrow)
    blocks = (spec.blocks[0], dataclasses.replace(spec.blocks[1], parts=parts))
    with pytest.raises(
        UserError, match=r"2 heads of 8, with first values of 4 heads of 8\. Give all attentions one n_kv"
    ):
        GPT.on_meta(dataclasses.replace(spec, blocks=blocks))
