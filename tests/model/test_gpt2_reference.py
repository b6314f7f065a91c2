"""GPT-2: our parts put together equal an independent implementation, to the rounding, and cost what is known of it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
import transformers
from torch.utils.flop_counter import FlopCounterMode

from minigpt.cost import Work
from minigpt.model import GPT, ModelSpec
from minigpt.testing import make_spec

GPT2_PARTS = {"position": "learned", "norm": "layernorm", "mlp": "mlp", "activation": "gelu_tanh", "bias": True}
SHAPES = {
    "small": {"n_layer": 3, "d_model": 48, "n_head": 4, "vocab_size": 61, "block_size": 24},
    "768": {"n_layer": 2, "d_model": 768, "n_head": 12, "vocab_size": 1000, "block_size": 64},
}


def reference(spec: ModelSpec) -> torch.nn.Module:
    """GPT-2 of the transformers library in the shape of ``spec``, its weights random."""
    config = transformers.GPT2Config(
        vocab_size=spec.vocab_size,
        n_positions=spec.block_size,
        n_embd=spec.d_model,
        n_layer=spec.n_layer,
        n_head=spec.n_head,
        activation_function="gelu_new",
        attn_pdrop=0.0,
        embd_pdrop=0.0,
        resid_pdrop=0.0,
        bos_token_id=0,
        eos_token_id=0,
        attn_implementation="eager",
    )
    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(config).eval()
    with torch.no_grad():  # biases and gains too: at their first values they would hide a missing one
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def ours_by_theirs(n_layer: int) -> dict[str, tuple[str, int | None]]:
    """Our parameter -> theirs, and which third of it; None is the whole."""
    names: dict[str, tuple[str, int | None]] = {
        "embedding.weight": ("transformer.wte.weight", None),
        "position.weight": ("transformer.wpe.weight", None),
        "final_norm.gain": ("transformer.ln_f.weight", None),
        "final_norm.bias": ("transformer.ln_f.bias", None),
    }
    for layer in range(n_layer):
        here, there = f"blocks.{layer}", f"transformer.h.{layer}"
        for norm, name in (("attention_norm", "ln_1"), ("mlp_norm", "ln_2")):
            names[f"{here}.{norm}.gain"] = (f"{there}.{name}.weight", None)
            names[f"{here}.{norm}.bias"] = (f"{there}.{name}.bias", None)
        for kind in ("weight", "bias"):
            for third, name in enumerate("qkv"):
                names[f"{here}.attention.{name}.{kind}"] = (f"{there}.attn.c_attn.{kind}", third)
            names[f"{here}.attention.o.{kind}"] = (f"{there}.attn.c_proj.{kind}", None)
            names[f"{here}.mlp.up.{kind}"] = (f"{there}.mlp.c_fc.{kind}", None)
            names[f"{here}.mlp.down.{kind}"] = (f"{there}.mlp.c_proj.{kind}", None)
    return names


def in_our_form(theirs: torch.Tensor, name: str, third: int | None) -> torch.Tensor:
    """Theirs are (in, out) where ours are (out, in), with queries, keys and values in one matrix."""
    if third is not None:
        theirs = theirs.chunk(3, dim=-1)[third]
    return theirs.T if theirs.dim() == 2 and not name.startswith(("embedding", "position")) else theirs


def with_weights_of(model: torch.nn.Module, spec: ModelSpec) -> GPT:
    gpt, theirs = GPT.create(spec).eval(), dict(model.named_parameters())
    names = ours_by_theirs(spec.n_layer)
    assert set(names) == set(dict(gpt.named_parameters()))
    with torch.no_grad():
        for name, parameter in gpt.named_parameters():
            their_name, third = names[name]
            parameter.copy_(in_our_form(theirs[their_name], name, third))
    return gpt


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_logits_loss_and_gradients_equal_the_reference(shape):
    spec = make_spec(**shape, **GPT2_PARTS)
    theirs = reference(spec)
    ours = with_weights_of(theirs, spec)
    tokens = torch.randint(spec.vocab_size, (2, spec.block_size), generator=torch.Generator().manual_seed(1))
    answer, logits = theirs(tokens, labels=tokens), ours(tokens).logits
    torch.testing.assert_close(logits, answer.logits, rtol=1e-5, atol=1e-5)

    loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
    torch.testing.assert_close(loss, answer.loss, rtol=1e-6, atol=1e-6)
    loss.backward()
    answer.loss.backward()
    gradients = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    names = ours_by_theirs(spec.n_layer)
    for name, parameter in ours.named_parameters():
        their_name, third = names[name]
        expected = in_our_form(gradients[their_name], name, third)
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-4, atol=1e-6 + 1e-5 * expected.abs().max().item())


def gpt2() -> GPT:
    sizes = {"n_layer": 12, "d_model": 768, "n_head": 12, "vocab_size": 50257, "block_size": 1024}
    return GPT.on_meta(make_spec(**sizes, **GPT2_PARTS))


def test_gpt2_has_the_parameters_of_gpt2():
    model = gpt2()
    assert model.parameter_count() == 124_439_808
    assert model.cost(Work(1, 1024, 1024)).total.params == 124_439_808


@pytest.mark.parametrize(("last_only", "expected"), [(False, 291_648_307_200), (True, 212_678_075_904)])
def test_gpt2_costs_the_known_flops_and_what_torch_counts(last_only, expected):
    model = gpt2().eval()
    assert model.cost(Work(1, 1024, 1024, dense=True, last_only=last_only)).flops == expected
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 1024, dtype=torch.int64, device="meta"), last_only=last_only)
    assert counter.get_total_flops() == expected
