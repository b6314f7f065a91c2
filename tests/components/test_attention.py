"""Softmax attentions beside independent ones, and their two paths beside each other."""

from __future__ import annotations

import math

import pytest
import torch
from rich.console import Console

from minigpt import registry
from minigpt.components.attention.base import Attention
from minigpt.components.attention.scores import SoftmaxAttention
from minigpt.errors import UserError
from minigpt.model import GPT
from minigpt.testing import all_cases, make_spec
from minigpt.testing.models import SIZES, batch, create, decode, moved
from minigpt.training.display import describe
from tests.components.parts import above_diagonal, call, part, values

NAMES = registry.names("attention")
FUSED = [
    case
    for case in all_cases([("attention", name) for name in NAMES])
    if isinstance(attention := GPT.on_meta(case.spec()).blocks[0].attention, SoftmaxAttention)
    and attention.obstacle is None
]


@pytest.mark.parametrize("case", FUSED, ids=str)
def test_the_fused_path_equals_the_explicit_one(case):
    model = moved(create(case.spec(**SIZES | {"dropout": 0.0}))).double().eval()
    answers = []
    for fused in (True, False):
        for attention in (each for each in model.modules() if isinstance(each, SoftmaxAttention)):
            attention.softmax.fused = fused
            assert attention.path.startswith("fused" if fused else "explicit")
        model.zero_grad()
        model(batch()).logits.square().mean().backward()
        with torch.no_grad():
            cached = decode(model, batch(), (5, 9, 1, 1))
        answers.append([model(batch()).logits, cached, *(p.grad for p in model.parameters())])
    for ours, theirs in zip(*answers, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_every_attention_says_how_it_is_computed(name):
    attention = part("attention", name)
    assert attention.path not in ("", Attention.path.fget(attention))


@pytest.mark.parametrize("share", [{}, {"attention": "run", "distinct": 1}])
def test_the_model_s_description_says_how_its_attention_is_computed(share, capsys):
    softcapped = {"name": "causal", "softcap": 2.0}
    describe(GPT.on_meta(make_spec(attention=softcapped, share=share)), Console(width=200))
    assert capsys.readouterr().out.count("explicit, for its softcap") == (2 if share else 1)


def loaded(attention, tensors):
    """The attention with these parameters; every one of its own is among them."""
    attention.load_state_dict(tensors, strict=True)
    return attention


def pairs_to_halves(weight, heads, width):
    """Rows of a map whose rotary pairs are neighbours (2 i, 2 i + 1), as of one whose pairs are i, i + width / 2."""
    rows = weight.unflatten(0, (heads, width))
    return torch.cat([rows[:, 0::2], rows[:, 1::2]], dim=1).flatten(0, 1)


@pytest.mark.parametrize("q_latent_dim", [None, 12])
def test_mla_equals_deepseek_v2_in_full_and_absorbed(q_latent_dim):
    from transformers import DeepseekV2Config
    from transformers.models.deepseek_v2.modeling_deepseek_v2 import DeepseekV2ForCausalLM

    sizes = {"q_lora_rank": q_latent_dim, "kv_lora_rank": 20, "qk_rope_head_dim": 6, "qk_nope_head_dim": 8}
    theirs = DeepseekV2ForCausalLM._from_config(
        DeepseekV2Config(
            vocab_size=50, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=4, v_head_dim=8, first_k_dense_replace=2, max_position_embeddings=32,
            tie_word_embeddings=False, **sizes,
        ),
        attn_implementation="eager",
    ).eval()  # fmt: skip
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    mla = {"name": "mla", "latent_dim": 20, "rope_dim": 6, "q_latent_dim": q_latent_dim}
    mlp, norm = {"name": "glu", "hidden": 48}, {"name": "rmsnorm", "eps": 1e-6}
    spec = make_spec(
        attention=mla, mlp=mlp, activation="silu", norm=norm, tie_embeddings=False, block_size=32, vocab_size=50
    )
    ours = GPT.create(spec).eval()
    ours.load_state_dict(dict(from_deepseek(theirs.state_dict(), q_latent_dim)), strict=True)
    tokens = batch(2, 24)
    with torch.no_grad():
        expected = theirs(tokens).logits
        torch.testing.assert_close(ours(tokens).logits, expected, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(decode(ours, tokens, (6, 4, *[1] * 14)), expected, atol=1e-4, rtol=1e-4)


def from_deepseek(tensors, q_latent_dim):
    """Names and tensors of a DeepSeek-V2 of dense layers, 4 heads of 8 + 6 channels over latents of 20, as ours."""
    yield "embedding.weight", tensors["model.embed_tokens.weight"]
    yield "final_norm.gain", tensors["model.norm.weight"]
    yield "head.linear.weight", tensors["lm_head.weight"]
    for layer in range(2):
        theirs, ours = f"model.layers.{layer}.", f"blocks.{layer}."
        for name, of in (("input_layernorm", "attention_norm"), ("post_attention_layernorm", "mlp_norm")):
            yield f"{ours}{of}.gain", tensors[f"{theirs}{name}.weight"]
        for name in ("gate", "up", "down"):
            yield f"{ours}mlp.{name}.weight", tensors[f"{theirs}mlp.{name}_proj.weight"]
        theirs, ours = theirs + "self_attn.", ours + "attention."
        q = tensors[theirs + ("q_proj.weight" if q_latent_dim is None else "q_b_proj.weight")].unflatten(0, (4, 14))
        turned = pairs_to_halves(q[:, 8:].flatten(0, 1), 4, 6).unflatten(0, (4, 6))
        yield ours + "q.weight", torch.cat([q[:, :8], turned], dim=1).flatten(0, 1)
        if q_latent_dim is not None:
            yield ours + "q_down.weight", tensors[theirs + "q_a_proj.weight"]
            yield ours + "q_norm.gain", tensors[theirs + "q_a_layernorm.weight"]
        latent, shared = tensors[theirs + "kv_a_proj_with_mqa.weight"].split([20, 6])
        yield ours + "kv_down.weight", latent
        yield ours + "k_rope.weight", pairs_to_halves(shared, 1, 6)
        yield ours + "kv_norm.gain", tensors[theirs + "kv_a_layernorm.weight"]
        up = tensors[theirs + "kv_b_proj.weight"].unflatten(0, (4, 16))
        yield ours + "k_up.weight", up[:, :8].flatten(0, 1)
        yield ours + "v_up.weight", up[:, 8:].flatten(0, 1)
        yield ours + "o.weight", tensors[theirs + "o_proj.weight"]


@pytest.mark.parametrize("window", [None, 5])
def test_sinks_equal_gpt_oss(window):
    from transformers import GptOssConfig
    from transformers.models.gpt_oss.modeling_gpt_oss import GptOssAttention, GptOssRotaryEmbedding

    config = GptOssConfig(
        hidden_size=32, num_attention_heads=4, num_key_value_heads=2, head_dim=8, max_position_embeddings=16,
        layer_types=["full_attention"], num_hidden_layers=1, attention_bias=False,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    )  # fmt: skip
    config._attn_implementation = "eager"
    theirs, ours = (
        GptOssAttention(config, 0).eval(),
        part("attention", "causal", n_kv_head=2, sinks=True, window=window),
    )
    names = {"q": "q_proj.weight", "k": "k_proj.weight", "v": "v_proj.weight", "o": "o_proj.weight"}
    theirs.load_state_dict(
        {there: getattr(ours, here).weight for here, there in names.items()} | {"sinks": ours.sinks}, strict=True
    )
    x, place = values(2, 16, 32), torch.arange(16)
    hidden = (place > place[:, None]) | (place <= place[:, None] - (window or 16))
    mask = torch.zeros(16, 16).masked_fill(hidden, torch.finfo(torch.float32).min)[None, None]
    expected, _ = theirs(x, GptOssRotaryEmbedding(config)(x, place[None]), mask)
    torch.testing.assert_close(ours(x, call()), expected, atol=1e-4, rtol=1e-4)


def test_asic_at_full_precision_is_causal():
    asic = part("attention", "asic", numerator_bits=None, denominator_bits=None)
    causal = loaded(part("attention", "causal"), asic.state_dict())
    x = values(2, 16, 32)
    torch.testing.assert_close(asic(x, call()), causal(x, call()))


def test_asic_rounds_a_row_as_its_registers_do():
    scores = torch.tensor([0.0, -0.5, -1.0, -20.0])  # exponents 1, 0.607, 0.368, 0: of 15 steps 15, 9, 6, 0
    found = part("attention", "asic", numerator_bits=4, denominator_bits=2).weights(scores)
    torch.testing.assert_close(found, torch.tensor([15.0, 9.0, 6.0, 0.0]) / 15 / 2.0)  # the sum, 30 / 15, has two bits
    found = part("attention", "asic", numerator_bits=4, denominator_bits=2).weights(scores[:2])
    torch.testing.assert_close(found, torch.tensor([15.0, 9.0]) / 15 / 1.5)  # 24 / 15 = 1.6: of 1, 1.5 and 2


def test_infinite_at_the_sizes_of_causal_is_causal():
    infinite = part("attention", "infinite", combine="concat")
    causal = loaded(part("attention", "causal"), infinite.state_dict())
    x = values(2, 16, 32)
    torch.testing.assert_close(infinite(x, call()), causal(x, call()))


def test_summed_heads_have_one_output_map_of_one_head_s_width():
    infinite = part("attention", "infinite", qk_head_dim=5, v_head_dim=24)
    assert infinite.o.weight.shape == (32, 24)
    assert [getattr(infinite, name).out_features for name in ("q", "k", "v")] == [4 * 5, 4 * 5, 4 * 24]


@pytest.mark.parametrize("layer", [0, 3])
def test_differential_starts_at_the_paper_s_lambda(layer):
    attention = GPT.create(make_spec(n_layer=4, attention="differential")).blocks[layer].attention
    start = 0.8 - 0.6 * math.exp(-0.3 * layer)
    assert attention.lambda_start == pytest.approx(start)
    assert attention.mixing().item() == pytest.approx(start, abs=0.5)
    (a1, b1), (a2, b2) = attention.directions.detach().double()
    expected = torch.exp(a1 @ b1) - torch.exp(a2 @ b2) + start
    assert attention.mixing().item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_gate_of_zero_lets_half_through():
    gated = part("attention", "causal", gate="headwise").requires_grad_(False)
    x = values(2, 16, 32)
    gated.gate.weight.zero_()
    half, gated.gate = gated(x, call()), None
    torch.testing.assert_close(2 * half, gated(x, call()))


def test_causal_equals_pytorch_s_multi_head_attention():
    ours = GPT.create(make_spec(position="nope", bias=True)).blocks[0].attention
    theirs = torch.nn.MultiheadAttention(32, 4, batch_first=True)
    maps = (ours.q, ours.k, ours.v)
    tensors = {"in_proj_weight": torch.cat([each.weight for each in maps]), "out_proj.weight": ours.o.weight}
    theirs.load_state_dict(
        tensors | {"in_proj_bias": torch.cat([each.bias for each in maps]), "out_proj.bias": ours.o.bias}
    )
    x = values(2, 16, 32)
    expected, _ = theirs(x, x, x, attn_mask=above_diagonal(16))
    torch.testing.assert_close(ours(x, call()), expected)


def test_mla_keeps_no_more_than_latents():
    attention = GPT.create(make_spec(attention="mla")).blocks[0].attention
    state = attention.new_state(2, 16, torch.device("cpu"), torch.float32)
    assert state.bits == 2 * 16 * (4 * 8 + 4) * 32
    assert attention.decode_form == "absorbed"


REFUSED = {
    "sinks": ({"name": "causal", "sinks": True}, {"softmax": "consmax"}, "softmax=consmax"),
    "sinks twice": ({"name": "causal", "sinks": True}, {"softmax": "softmax1"}, "softmax=softmax1"),
    "norm of values": ({"name": "causal", "v_norm": True}, {"norm": "identity"}, "norm=identity"),
    "groups": ({"name": "infinite", "n_kv_head": 5}, {}, "n_kv_head"),
    "one head": ({"name": "infinite", "combine": "concat"}, {"n_head": 1}, "combine"),
    "odd heads": ({"name": "differential"}, {"d_model": 36, "n_head": 4}, "odd"),
    "absorbed": ({"name": "mla"}, {"linear": "ternary"}, "sites.linear.k_up=linear and sites.linear.v_up=linear"),
    "absorbed bias": ({"name": "mla"}, {"sites": {"linear": {"v_up": {"name": "linear", "bias": True}}}}, "v_up"),
    "no pair": ({"name": "mla", "rope_dim": 1}, {}, "attention.rope_dim"),
    "softmax": ({"name": "asic"}, {"softmax": "consmax"}, "softmax=consmax would be ignored"),
    "window": ({"name": "mla", "window": 4}, {}, "'mla' has no option 'window'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_an_attention_cannot_honour_is_refused_with_the_way_out(case):
    attention, around, sentence = REFUSED[case]
    with pytest.raises(UserError) as error:
        GPT.on_meta(make_spec(attention=attention, **around))
    assert sentence in str(error.value)
