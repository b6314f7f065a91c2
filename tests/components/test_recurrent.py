"""Linear and recurrent attentions: their three forms agree, and are what papers and transformers say."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F

from minigpt.components.attention.recurrent.delta import DeltaScan
from minigpt.components.attention.recurrent.gated_linear import LEAST_LOG_DECAY, ChannelScan
from minigpt.components.attention.recurrent.scan import Scan
from minigpt.components.call import Call, Span
from minigpt.errors import UserError
from minigpt.model import GPT
from minigpt.testing import make_spec
from tests.components.parts import DEVICE, call, part, values

TOKENS = 20
FORMS = {"parallel": TOKENS, "chunked": 7, "recurrent": 1}


def moved(*shape: int, by: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(by)).double()


def drawn(*last: int) -> list[torch.Tensor]:
    return [moved(2, 3, TOKENS, *last, by=i) for i in range(3)]


def scanned(scan, *given, pieces=(TOKENS,)):
    """y of a scan that is called with some tokens at a time."""
    outputs, state, start = [], None, 0
    for length in pieces:
        now = [None if each is None else each[:, :, start : start + length] for each in given]
        y, state = scan.run(*now, state)
        outputs.append(y)
        start += length
    return torch.cat(outputs, dim=2), state


def recurred(q, k, v, decay, write):
    """y_t = q_t S_t, S_t = write(decay_t S_{t-1}, k_t, v_t), token by token. decay: (B, H, T, K or 1)."""
    state, rows = torch.zeros(*q.shape[:2], q.shape[3], v.shape[3]).double(), []
    for t in range(q.shape[2]):
        state = write(state * decay[:, :, t, :, None], k[:, :, t], v[:, :, t], t)
        rows.append(torch.einsum("bhi,bhij->bhj", q[:, :, t], state))
    return torch.stack(rows, dim=2), state


def added(state, k, v, _):
    return state + k[..., :, None] * v[..., None, :]


@pytest.mark.parametrize("chunk", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("pieces", [(TOKENS,), (9, 1, 1, 8, 1)], ids=["whole", "in_pieces"])
@pytest.mark.parametrize("decay", ["none", "constant", "token"])
def test_a_scan_in_any_form_is_the_recurrence(decay, chunk, pieces):
    q, k, v = drawn(8)
    constant, token = -0.3 * torch.ones(1, 3, TOKENS).double(), -moved(2, 3, TOKENS, by=9).exp()
    g = {"none": None, "constant": constant, "token": token}[decay]
    expected = recurred(q, k, v, torch.ones(1, 1, TOKENS, 1) if g is None else g.exp()[..., None], added)
    found = scanned(Scan(3, 8, 8, chunk, decay), q, k, v, g, pieces=pieces)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("chunk", FORMS.values(), ids=FORMS)
def test_a_scan_whose_heads_share_their_keys_is_one_whose_keys_are_repeated(chunk):
    (q, k, v), g = drawn(8), -moved(2, 3, TOKENS, by=9).exp()
    shared = Scan(3, 8, 8, chunk, "token", shared_keys=True).run(q[:, :1], k[:, :1], v, g, None)
    repeated = Scan(3, 8, 8, chunk, "token").run(
        q[:, :1].expand(-1, 3, -1, -1), k[:, :1].expand(-1, 3, -1, -1), v, g, None
    )
    torch.testing.assert_close(shared, repeated)


@pytest.mark.parametrize("chunk", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("pieces", [(TOKENS,), (9, 1, 1, 8, 1)], ids=["whole", "in_pieces"])
def test_a_scan_of_channels_in_any_form_is_the_recurrence(chunk, pieces):
    (q, k, v), g = drawn(8), -moved(2, 3, TOKENS, 8, by=9).exp()
    expected = recurred(q, k, v, g.exp(), added)
    torch.testing.assert_close(scanned(ChannelScan(3, 8, 8, chunk), q, k, v, g, pieces=pieces), expected)


@pytest.mark.parametrize("chunk", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("pieces", [(TOKENS,), (9, 1, 1, 8, 1)], ids=["whole", "in_pieces"])
@pytest.mark.parametrize("decays", [True, False])
def test_the_delta_rule_in_any_form_is_the_recurrence(decays, chunk, pieces):
    q, k, v = drawn(8)
    k, beta, g = F.normalize(k, dim=-1), moved(2, 3, TOKENS, by=8).sigmoid(), -moved(2, 3, TOKENS, by=9).exp()

    def corrected(state, k, v, t):
        wrong = v - torch.einsum("bhi,bhij->bhj", k, state)
        return state + k[..., :, None] * (beta[:, :, t, None] * wrong)[..., None, :]

    decay = g.exp()[..., None] if decays else torch.ones(1, 1, TOKENS, 1)
    expected = recurred(q, k, v, decay, corrected)
    scan = DeltaScan(3, 8, 8, chunk, decays)
    torch.testing.assert_close(scanned(scan, q, k, v, beta, g if decays else None, pieces=pieces), expected)


@pytest.mark.parametrize("size", [0.0, 1e-3, 5.0, 1e3, 1e30])
def test_no_decay_overflows_or_stops_a_gradient(size):
    """Ratios of decays over 64 tokens, between those that forget nothing and those that forget all at once."""
    q, k, v = (each.float().repeat(1, 1, 4, 1).requires_grad_() for each in drawn(8))
    sizes = (3, 8, 8)
    scans = {Scan(*sizes, 64, "token"): (), ChannelScan(*sizes, 32): (8,), DeltaScan(*sizes, 64): ()}
    for scan, shape in scans.items():
        gates = (-size * torch.rand(2, 3, 80, *shape)).requires_grad_()
        if isinstance(scan, DeltaScan):
            y, state = scan.run(q, F.normalize(k, dim=-1), v, torch.ones(2, 3, 80), gates, None)
        else:
            y, state = scan.run(q, k, v, gates.clamp_min(LEAST_LOG_DECAY) if shape else gates, None)
        (y.square().mean() + state.square().mean()).backward()
        for each in (y, state, gates.grad, q.grad, k.grad, v.grad):
            assert each.isfinite().all(), scan


def attention(name: str, **options):
    """One attention in fp64, with random parameters of both signs."""
    built = part("attention", name, **options).double()
    with torch.no_grad():
        for i, parameter in enumerate(built.parameters()):
            parameter.copy_(0.4 * moved(*parameter.shape, by=i))
    return built.eval()


def split(x: torch.Tensor) -> torch.Tensor:
    return x.view(2, 16, 4, 8).transpose(1, 2)


def turned(built, q, k):
    return built.position.rotate(q, call(), "query"), built.position.rotate(k, call(), "key")


PHI = {"elu1": lambda x: F.elu(x) + 1, "relu": F.relu, "softplus": F.softplus, "softmax": lambda x: x.softmax(-1)}


@pytest.mark.parametrize("feature_map", PHI)
def test_linear_attention_is_the_outer_products_of_the_paper(feature_map):
    built, x = attention("linear", chunk=5, feature_map=feature_map), moved(2, 16, 32, by=50)
    q, k, v = (split(m(x)) for m in (built.q, built.k, built.v))
    q, k = PHI[feature_map](q), PHI[feature_map](k)
    bottom = (q * k.cumsum(2)).sum(-1, keepdim=True)
    top, _ = recurred(*turned(built, q, k), v, torch.ones(1, 1, 16, 1), added)
    torch.testing.assert_close(built(x, call()), built.o((top / bottom).transpose(1, 2).flatten(2)))
    elementwise = (q * (k * v).cumsum(2) / bottom).transpose(1, 2).flatten(2)  # which some call linear attention
    assert (built(x, call()) - built.o(elementwise)).abs().max() > 1e-2


@pytest.mark.parametrize("decay", ["fixed", "learned"])
def test_retention_is_the_paper_s_recurrence(decay):
    built, x = attention("retention", decay=decay, chunk=5), moved(2, 16, 32, by=50)
    gamma = 1 - 2.0 ** (-5 - torch.arange(4.0)) if decay == "fixed" else built.decay_logit.sigmoid()
    q, k, v = (split(m(x)) for m in (built.q, built.k, built.v))
    q, k = turned(built, q, k)
    found, _ = recurred(q / math.sqrt(8), k, v, gamma.double()[None, :, None, None].expand(1, 4, 16, 1), added)
    gain = built.norm.gain
    normed = F.rms_norm(found.transpose(1, 2), (8,), gain, 1e-6).flatten(2)
    torch.testing.assert_close(built(x, call()), built.o(normed * F.silu(built.g(x))), rtol=1e-6, atol=1e-6)


def test_retention_starts_its_learned_decays_at_the_published_ones():
    model = GPT.create(make_spec(attention={"name": "retention", "decay": "learned"}))
    expected = 1 - 2.0 ** (-5 - torch.arange(4.0))
    torch.testing.assert_close(model.blocks[0].attention.decay_logit.sigmoid(), expected)


def test_gated_linear_attention_is_the_paper_s_recurrence():
    built, x = attention("gated_linear", chunk=5, temperature=2.0), moved(2, 16, 32, by=50)
    gate = (split(built.decay_up(built.decay_down(x))).sigmoid() ** 0.5).clamp_min(math.exp(LEAST_LOG_DECAY))
    q, k, v = (split(m(x)) for m in (built.q, built.k, built.v))
    q, k = turned(built, q, k)
    found, _ = recurred(q / math.sqrt(8), k, v, gate, added)
    normed = F.rms_norm(found.transpose(1, 2), (8,), built.norm.gain, 1e-6).flatten(2)
    torch.testing.assert_close(built(x, call()), built.o(normed * F.silu(built.g(x))))


def test_the_gated_delta_rule_equals_qwen3_next_s():
    from transformers.models.qwen3_next.configuration_qwen3_next import Qwen3NextConfig
    from transformers.models.qwen3_next.modeling_qwen3_next import Qwen3NextGatedDeltaNet

    config = Qwen3NextConfig(
        hidden_size=32, num_hidden_layers=2, linear_num_key_heads=4, linear_num_value_heads=4, linear_key_head_dim=8,
        linear_value_head_dim=8, linear_conv_kernel_dim=4, rms_norm_eps=1e-6, hidden_act="silu",
        layer_types=["linear_attention", "linear_attention"],
    )  # fmt: skip
    torch.manual_seed(0)
    theirs, ours = Qwen3NextGatedDeltaNet(config, 0), make_spec(attention="delta", position="nope").context(0)
    ours, weights = ours.build("attention"), theirs.in_proj_qkvz.weight.view(4, 4, 8, 32)  # head by head: q, k, v, z
    with torch.no_grad():
        theirs.norm.weight.uniform_(0.5, 1.5)
        for name, matrix in zip("qkvg", weights.unbind(1), strict=True):
            getattr(ours, name).weight.copy_(matrix.reshape(32, 32))
        ours.beta.weight.copy_(theirs.in_proj_ba.weight[0::2])
        ours.decay.weight.copy_(theirs.in_proj_ba.weight[1::2])
        ours.conv.weight.copy_(theirs.conv1d.weight[:, 0])
        for mine, other in (("log_rate", "A_log"), ("step_bias", "dt_bias")):
            getattr(ours, mine).copy_(getattr(theirs, other))
        ours.norm.gain.copy_(theirs.norm.weight)
        ours.o.weight.copy_(theirs.out_proj.weight)
        x = values(2, 16, 32)
        torch.testing.assert_close(ours(x, call()), theirs(x), atol=1e-4, rtol=1e-4)


def test_a_model_of_state_spaces_equals_mamba2_of_transformers():
    from transformers import Mamba2Config, Mamba2ForCausalLM

    config = Mamba2Config(
        hidden_size=32, num_hidden_layers=2, expand=2, head_dim=8, num_heads=8, state_size=16, n_groups=1,
        vocab_size=50, chunk_size=8, layer_norm_epsilon=1e-6, tie_word_embeddings=False, residual_in_fp32=False,
    )  # fmt: skip
    torch.manual_seed(0)
    theirs = Mamba2ForCausalLM(config).eval()
    ssm = {"name": "ssm", "state_dim": 16, "chunk": 7}
    ours = GPT.create(make_spec(attention=ssm, mlp="identity", position="nope", tie_embeddings=False)).eval()
    names = {
        "heads.project.weight": "in_proj.weight", "heads.conv.bias": "conv1d.bias", "heads.log_rate": "A_log",
        "heads.step_bias": "dt_bias", "heads.skip": "D", "heads.norm.gain": "norm.weight",
        "o.weight": "out_proj.weight",
    }  # fmt: skip
    tokens = torch.randint(0, 50, (2, 16), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        weights = dict(theirs.backbone.named_parameters())
        ours.embedding.weight.copy_(weights["embeddings.weight"])
        ours.final_norm.gain.copy_(weights["norm_f.weight"])
        ours.head.linear.weight.copy_(theirs.lm_head.weight)
        for i, block in enumerate(ours.blocks):
            block.attention_norm.gain.copy_(weights[f"layers.{i}.norm.weight"])
            block.attention.heads.conv.weight.copy_(weights[f"layers.{i}.mixer.conv1d.weight"][:, 0])
            for mine, other in names.items():
                block.attention.get_parameter(mine).copy_(weights[f"layers.{i}.mixer.{other}"])
        torch.testing.assert_close(ours(tokens).logits, theirs(tokens).logits, atol=1e-4, rtol=1e-4)


MODULATIONS = {
    "cooperative": lambda r, c: F.relu6(r**2 + 2 * r + c * (1 + r.abs())),
    "tanh": lambda r, c: r * (1 + torch.tanh(r * c)),
    "additive": lambda r, c: r + c,
}


@pytest.mark.parametrize("modulation", MODULATIONS)
def test_latents_modulated_by_running_means_are_the_definition_token_by_token(modulation):
    built = attention("latent_triadic", n_latent=3, loops=2, modulation=modulation, chunk=5)
    x, mod = moved(2, 16, 32, by=50), MODULATIONS[modulation]
    asks, keys, values_ = (split(m(x)) for m in (built.q, built.k, built.v))
    loops: list[tuple[list, list]] = [([], []), ([], [])]
    weights, kept, rows = [], [], []
    for t in range(16):
        latents, k, v = built.latents[None], keys[:, :, t], values_[:, :, t]  # (B, H, L, d), (B, H, d) twice
        for seen in loops:
            for which, each in zip(seen, (k, v), strict=True):
                which.append(each)
            k_mean, v_mean = (torch.stack(which).mean(0) for which in seen)
            q_mean = latents.mean(2)
            latents, k, v = (
                mod(latents, (k_mean + v_mean)[:, :, None]), mod(k, q_mean + v_mean), mod(v, q_mean + k_mean)
            )  # fmt: skip
        weights.append(F.elu((latents * k[:, :, None]).sum(-1) / math.sqrt(8)) + 1)
        kept.append(v)
        w, past = torch.stack(weights), torch.stack(kept)  # (t + 1, B, H, L), (t + 1, B, H, d)
        means = (w[..., None] * past[:, :, :, None]).sum(0) / w.sum(0)[..., None]  # (B, H, L, d)
        share = ((asks[:, :, t, None] * built.latents).sum(-1) / math.sqrt(8)).softmax(-1)
        rows.append((share[..., None] * means).sum(2))
    torch.testing.assert_close(built(x, call()), built.o(torch.stack(rows, dim=2).transpose(1, 2).flatten(2)))


def test_hybrid_heads_that_attend_are_causal_attention_of_as_many_heads():
    bare = {"norm": {"mix": {"name": "identity"}}}
    hybrid = make_spec(attention="hybrid_heads", sites=bare).context(0).build("attention")
    causal = make_spec(n_head=2, d_model=32, attention="causal").context(0)
    causal = dataclasses.replace(causal, head_dim=8).build("attention")
    with torch.no_grad():
        for i, parameter in enumerate([*hybrid.parameters(), *causal.parameters()]):
            parameter.copy_(0.4 * moved(*parameter.shape, by=i))
        for name in "qkv":
            getattr(causal, name).weight.copy_(getattr(hybrid, name).weight)
        hybrid.o.weight[:, 16:] = 0  # of the state spaces
        causal.o.weight.copy_(hybrid.o.weight[:, :16])
        for module in (*hybrid.modules(), *causal.modules()):
            if hasattr(module, "init_buffers"):
                module.init_buffers()
        x = values(2, 16, 32)
        torch.testing.assert_close(hybrid(x, call()), causal(x, call()))


@pytest.mark.parametrize(
    ("heads", "options", "message"),
    [
        (1, {}, "needs a head of each kind, model.n_head=1 has one.*attention=causal|ssm"),
        (4, {"window": 17}, r"attention\.window: 17 is more than model.block_size=16"),
    ],
)
def test_hybrid_heads_refuse_what_would_do_nothing(heads, options, message):
    with pytest.raises(UserError, match=message):
        GPT.on_meta(make_spec(n_head=heads, attention={"name": "hybrid_heads"} | options))


NAMES = ("linear", "retention", "gated_linear", "delta", "ssm", "latent_triadic")


@pytest.mark.parametrize("name", NAMES)
def test_padding_leaves_a_state_as_it_was(name):
    built = attention(name)
    state = built.new_state(2, 16, DEVICE, torch.float64)
    padded = Call(Span(0, 5, DEVICE, torch.tensor([5, 5])))
    built(moved(2, 5, 32, by=1), padded, state)
    assert all((tensor == 0).all() for tensor in state.tensors.values())


@pytest.mark.parametrize("name", NAMES)
def test_sums_are_kept_in_full_precision_under_autocast(name):
    built, x = part("attention", name), values(2, 16, 32)
    state = built.new_state(2, 16, DEVICE, torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        for t in range(16):
            built(x[:, t : t + 1], call(t, 1), state)
    assert state["sums"].dtype == torch.float32
    assert (state["sums"] != state["sums"].bfloat16()).any()


@pytest.mark.parametrize("name", NAMES)
def test_a_state_does_not_grow_and_a_chosen_row_is_its_own(name):
    built, x = attention(name), moved(2, 16, 32, by=1)
    state = built.new_state(2, 16, DEVICE, torch.float64)
    built(x[:, :9], call(0, 9), state)
    bits, second = state.bits, state.select(torch.tensor([1]))
    left = built(x[1:, 9:], call(9, 7), second)
    torch.testing.assert_close(left, built(x[:, 9:], call(9, 7), state)[1:])
    assert state.bits == bits


def test_heads_that_do_not_divide_a_state_space_are_refused():
    with pytest.raises(UserError, match=r"attention\.head_dim: heads of 7 do not divide the width 64.*Take a divisor"):
        GPT.on_meta(make_spec(attention={"name": "ssm", "head_dim": 7}))
