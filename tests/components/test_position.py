"""Positions are what their papers and other libraries compute, and reach every attention that has a place for them."""

from __future__ import annotations

import math

import pytest
import torch
from transformers.models.llama.configuration_llama import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb
from transformers.models.t5.modeling_t5 import T5Attention

from minigpt import registry
from minigpt.components.position.alibi import alibi_slopes
from minigpt.components.position.t5_relative import buckets_of
from minigpt.errors import UserError
from minigpt.model import GPT
from minigpt.testing import make_spec
from minigpt.testing.models import batch, difference, moved
from tests.components.parts import call, part, values

BIASES = [name for name in registry.names("position") if "score" in registry.get("position", name).places]


def test_rope_equals_the_rotation_of_llama():
    q, k = values(2, 4, 16, 8), values(2, 4, 16, 8) + 1
    reference = LlamaRotaryEmbedding(LlamaConfig(hidden_size=32, num_attention_heads=4, max_position_embeddings=16))
    cos, sin = reference(q, torch.arange(16)[None])
    expected_q, expected_k = apply_rotary_pos_emb(q, k, cos, sin)
    rope = part("position", "rope")
    torch.testing.assert_close(rope.rotate(q, call(), "query"), expected_q, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(rope.rotate(k, call(), "key"), expected_k, atol=1e-5, rtol=1e-5)


def test_rope_scores_depend_on_distance_alone():
    rope = part("position", "rope", fraction=0.5)
    q, k = values(1, 4, 1, 8), values(1, 4, 1, 8) + 1

    def score(query: int, key: int) -> torch.Tensor:
        turned = rope.rotate(q, call(query, 1), "query"), rope.rotate(k, call(key, 1), "key")
        return (turned[0] * turned[1]).sum(-1)

    torch.testing.assert_close(score(5, 2), score(15, 12), atol=1e-5, rtol=1e-5)


def test_rope_turns_narrow_inputs_by_exact_angles():
    x, rope = values(1, 4, 16, 8).bfloat16(), part("position", "rope")
    wide = rope.rotate(x.float(), call(), "key")
    assert torch.equal(rope.rotate(x, call(), "key"), wide.bfloat16())


def test_alibi_slopes_are_the_paper_s():
    assert alibi_slopes(8) == [2.0**-h for h in range(1, 9)]
    assert alibi_slopes(12) == pytest.approx([2.0**-h for h in range(1, 9)] + [2**-0.5, 2**-1.5, 2**-2.5, 2**-3.5])


def test_alibi_bias_is_minus_slope_times_distance():
    bias = part("position", "alibi").score_bias(values(1, 4, 1, 8), torch.tensor([3]), torch.arange(4))
    assert bias[0, 0].tolist() == pytest.approx([-3 / 4, -2 / 4, -1 / 4, 0])


@pytest.mark.parametrize(
    ("options", "theirs"),
    [
        ({"scaling": "linear", "factor": 4.0}, {"rope_type": "linear", "factor": 4.0}),
        ({"scaling": "ntk", "factor": 4.0}, {"rope_type": "dynamic", "factor": 1.0}),  # of a text 4 times as long
        (
            {"scaling": "yarn", "factor": 8.0, "original_length": 256},
            {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 256},
        ),
        (
            {"scaling": "yarn", "factor": 2.5, "original_length": 4096, "beta_fast": 8.0, "beta_slow": 2.0},
            {
                "rope_type": "yarn", "factor": 2.5, "original_max_position_embeddings": 4096, "beta_fast": 8.0,
                "beta_slow": 2.0,
            },
        ),
    ],
)  # fmt: skip
def test_scaled_rope_has_the_tables_of_llama(options, theirs):
    config = LlamaConfig(
        hidden_size=256, num_attention_heads=4, max_position_embeddings=16, rope_theta=5000.0, rope_scaling=theirs
    )
    rotary = LlamaRotaryEmbedding(config)
    places = torch.arange(16 * 4 if theirs["rope_type"] == "dynamic" else 16)[None]
    cos, sin = rotary(values(1, 4, places.shape[1], 64), places)
    rope = make_spec(d_model=256, position={"name": "rope", "theta": 5000.0} | options).context(0)
    rope = rope.build("position", frozenset({"rotary"}), 64)
    rope.init_buffers()
    torch.testing.assert_close(rope.cos, cos[0, :16, :32], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(rope.sin, sin[0, :16, :32], atol=1e-5, rtol=1e-5)


def test_symmetric_rope_is_one_complex_factor():
    x, rope = values(2, 4, 16, 8).double(), part("position", "rope_symmetric", period=7)
    turned = torch.complex(x[..., :4], x[..., 4:]) * torch.exp(2j * math.pi * torch.arange(16).double() / 7)[:, None]
    expected = torch.cat([turned.real, turned.imag], dim=-1)
    torch.testing.assert_close(rope.rotate(x, call(), "key"), expected, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(rope.rotate(x, call(), "query")[..., 7, :], x[..., 7, :], atol=1e-6, rtol=1e-6)


def test_xpos_scores_are_the_paper_s():
    """A score of query t and key s is the sum over pairs of z^((t - s) / 512) times the pair's turned product."""
    xpos, q, k = part("position", "xpos"), values(1, 4, 16, 8).double(), values(1, 4, 16, 8).double() + 1
    scores = xpos.rotate(q, call(), "query") @ xpos.rotate(k, call(), "key").mT
    for t, s in ((5, 2), (15, 0), (9, 9)):
        expected = torch.zeros(1, 4, dtype=torch.float64)
        for i in range(4):
            z, angle = (2 * i / 8 + 0.4) / 1.4, (t - s) * 10000 ** (-2 * i / 8)
            a, b = torch.complex(q[:, :, t, i], q[:, :, t, i + 4]), torch.complex(k[:, :, s, i], k[:, :, s, i + 4])
            expected += z ** ((t - s) / 512) * (a * b.conj() * complex(math.cos(angle), math.sin(angle))).real
        torch.testing.assert_close(scores[:, :, t, s], expected, atol=1e-5, rtol=1e-5)


def test_xpos_refuses_a_context_at_whose_ends_numbers_are_lost():
    with pytest.raises(UserError, match=r"scale_base: with 1\.0, the factors at the ends of model\.block_size=16"):
        part("position", "xpos", scale_base=1.0, gamma=1e-9)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"factor": 2.0}, "position.factor: does nothing with position.scaling=none"),
        ({"scaling": "linear"}, "position.scaling: linear needs a factor"),
        ({"scaling": "linear", "factor": 2.0, "beta_slow": 2.0}, "position.beta_slow: does nothing with .*linear"),
        ({"scaling": "ntk", "factor": 2.0, "original_length": 64}, "position.original_length: does nothing"),
        ({"scaling": "yarn", "factor": 2.0}, "yarn needs the length trained for"),
        (
            {"scaling": "yarn", "factor": 2.0, "original_length": 64, "beta_fast": 1.0},
            "no more than position.beta_slow",
        ),
        ({"scaling": "yarn", "factor": 2.0, "original_length": 64, "theta": 1.0}, "1 turns every pair alike"),
        ({"scaling": "ntk", "factor": 2.0, "fraction": 0.25}, "only one is turned"),
    ],
)
def test_rope_refuses_options_that_do_nothing_beside_each_other(options, sentence):
    with pytest.raises(UserError, match=sentence):
        part("position", "rope", **options)


def test_sinusoidal_positions_are_the_paper_s_formula():
    sinusoidal = make_spec(position="sinusoidal").context().build("position", frozenset({"embedding"}), 32)
    sinusoidal.init_buffers()
    for t in (0, 3, 15):
        for i in range(16):
            angle = t / 10000 ** (2 * i / 32)
            found = sinusoidal.embed(call())[t, 2 * i : 2 * i + 2].tolist()
            assert found == pytest.approx([math.sin(angle), math.cos(angle)], abs=1e-6)


def test_cyclic_positions_are_sums_of_repeating_rows():
    cyclic = part("position", "cyclic", frozenset({"embedding"}), 32, periods=[3, 5])
    rows = cyclic.embed(call())
    for t in range(16):
        torch.testing.assert_close(rows[t], cyclic.weight[t % 3] + cyclic.weight[3 + t % 5])
    assert torch.equal(rows[15], rows[0])
    assert len(torch.unique(rows[:15], dim=0)) == 15


@pytest.mark.parametrize("periods", [[], [4, 8], [6, 5, 3], [5, 5]])
def test_cyclic_refuses_tables_that_say_nothing(periods):
    with pytest.raises(UserError, match=r"position.periods: (a table of period \d says nothing|has no period)"):
        part("position", "cyclic", periods=periods)


@pytest.mark.parametrize(("buckets", "far"), [(32, 128), (8, 20), (7, 50)])
def test_t5_buckets_are_those_of_transformers(buckets, far):
    theirs = T5Attention._relative_position_bucket(-torch.arange(3000), False, buckets, far)
    assert buckets_of(torch.arange(3000), buckets, far).tolist() == theirs.tolist()


def test_t5_adds_one_number_per_bucket_and_head():
    t5, places = part("position", "t5_relative", buckets=8, max_distance=10), torch.arange(16)
    bias = t5.score_bias(values(1, 4, 16, 8), places, places)
    bucket = T5Attention._relative_position_bucket(places[None] - places[:, None], False, 8, 10)
    torch.testing.assert_close(bias, t5.weight[bucket].permute(2, 0, 1))
    with pytest.raises(UserError, match=r"position\.max_distance: 16 is reached by the 16 distances"):
        part("position", "t5_relative", max_distance=16)


def test_fire_is_the_paper_s_formula_score_by_score():
    fire, places = part("position", "fire", threshold_init=6.0, hidden=3).double(), torch.arange(16)
    bias = fire.score_bias(values(1, 4, 16, 8), places, places)
    c, threshold = fire.c.item(), fire.threshold.item() * 6
    for t, s in ((0, 0), (5, 2), (15, 0), (12, 11)):
        share = math.log(c * (t - s) + 1) / (math.log(c * max(threshold, t) + 1) + 1e-6)
        for head in range(4):
            hidden = [
                max(0.0, w * share + b) for w, b in zip(fire.up[:, 0].tolist(), fire.up_bias.tolist(), strict=True)
            ]
            out = sum(w * h for w, h in zip(fire.down[head].tolist(), hidden, strict=True))
            assert bias[head, t, s].item() == pytest.approx(out + fire.down_bias[head].item(), rel=1e-9)


def test_cope_counts_what_its_gates_let_through():
    """The paper's formula, query by query: p = sum of gates from the key to the query, q.e between two whole p."""
    cope, q = part("position", "cope", positions=5).double(), values(1, 2, 9, 8).double()
    scores = (q @ (values(1, 2, 9, 8).double() + 0.3).mT).masked_fill(torch.ones(9, 9).triu(1) > 0, -math.inf)
    places = torch.arange(9)
    bias = cope.score_bias(q, places, places, scores)
    for head in range(2):
        for t in range(9):
            for s in range(t + 1):
                p = min(sum(1 / (1 + math.exp(-scores[0, head, t, u].item())) for u in range(s, t + 1)), 4.0)
                low, high = (float(q[0, head, t] @ cope.weight[index]) for index in (math.floor(p), math.ceil(p)))
                expected = low + (p - math.floor(p)) * (high - low)
                assert bias[0, head, t, s].item() == pytest.approx(expected, abs=1e-9)


def test_cope_counts_in_any_order_of_keys():
    cope, q, order = part("position", "cope", positions=5), values(1, 4, 1, 8), torch.tensor([3, 0, 4, 1, 2])
    scores, places = values(1, 4, 1, 5), torch.arange(5)
    bias = cope.score_bias(q, torch.tensor([4]), places, scores)
    shuffled = cope.score_bias(q, torch.tensor([4]), places[order], scores[..., order])
    torch.testing.assert_close(shuffled, bias[..., order])


@pytest.mark.parametrize("name", [n for n in registry.names("attention") if n != "identity"])
@pytest.mark.parametrize("position", BIASES)
def test_a_bias_of_scores_reaches_an_attention_or_is_refused_by_it(name, position):
    spec = make_spec(attention=name, position=position, n_layer=1)
    attention = registry.get("attention", name)
    if "score" not in attention.places:
        said = f"attention={name} does not support position={position}, which acts on score"
        if "position" not in attention.uses:
            said = f"position={position} would be ignored: attention={name}"
        with pytest.raises(UserError, match=said):
            GPT.on_meta(spec)
        return
    biased, plain = (
        moved(GPT.create(each)).eval() for each in (spec, make_spec(attention=name, position="nope", n_layer=1))
    )
    biased.load_state_dict(plain.state_dict(), strict=False)
    assert difference(biased(batch()).logits, plain(batch()).logits) > 1e-3


@pytest.mark.parametrize("position", BIASES)
def test_a_bias_keeps_the_fused_kernel_unless_it_reads_the_scores(position, monkeypatch):
    from minigpt.components.attention.scores import SoftmaxAttention

    def refuse(*_):
        raise AssertionError("score by score")

    monkeypatch.setattr(SoftmaxAttention, "attend_explicitly", refuse)
    model = GPT.create(make_spec(position=position, n_layer=1))
    if registry.get("position", position).reads_scores:
        with pytest.raises(AssertionError, match="score by score"):
            model(batch())
    else:
        model(batch())


@pytest.mark.parametrize("position", registry.names("position"))
def test_positions_are_finite_in_narrow_formats(position):
    model = GPT.create(make_spec(position=position)).eval()
    for dtype in (torch.bfloat16, torch.float16):
        narrow = model.to(dtype)
        for tokens in (batch(), batch(1, 1)):
            assert narrow(tokens).logits.isfinite().all()
