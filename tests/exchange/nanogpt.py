"""A GPT with the tensors of nanoGPT and minGPT, written out anew: what ours is compared with."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

SIZES = {"n_layer": 2, "n_head": 4, "n_embd": 32, "block_size": 24, "vocab_size": 61, "bias": True, "dropout": 0.1}


def state_dict(sizes: dict, prefix: str = "", tied: bool = True) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(2)

    def drawn(*shape: int) -> Tensor:
        return 0.3 * torch.randn(shape, generator=generator)

    width, found = sizes["n_embd"], {}
    found["transformer.wte.weight"] = drawn(sizes["vocab_size"], width)
    found["transformer.wpe.weight"] = drawn(sizes["block_size"], width)
    maps = {"attn.c_attn": (3 * width, width), "attn.c_proj": (width, width)}
    maps |= {"mlp.c_fc": (4 * width, width), "mlp.c_proj": (width, 4 * width)}
    norms = [f"h.{layer}.{norm}" for layer in range(sizes["n_layer"]) for norm in ("ln_1", "ln_2")] + ["ln_f"]
    for norm in norms:
        found[f"transformer.{norm}.weight"] = 1 + drawn(width)
        if sizes["bias"]:
            found[f"transformer.{norm}.bias"] = drawn(width)
    for layer in range(sizes["n_layer"]):
        for name, shape in maps.items():
            found[f"transformer.h.{layer}.{name}.weight"] = drawn(*shape)
            if sizes["bias"]:
                found[f"transformer.h.{layer}.{name}.bias"] = drawn(shape[0])
    found["lm_head.weight"] = found["transformer.wte.weight"] if tied else drawn(sizes["vocab_size"], width)
    return {f"{prefix}{name}": tensor for name, tensor in found.items()}


def logits(state: dict[str, Tensor], sizes: dict, tokens: Tensor, approximate: str = "none") -> Tensor:
    def mapped(x: Tensor, name: str) -> Tensor:
        return F.linear(x, state[f"{name}.weight"], state.get(f"{name}.bias"))

    def normed(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state.get(f"{name}.bias"), 1e-5)

    x = state["transformer.wte.weight"][tokens] + state["transformer.wpe.weight"][: tokens.shape[1]]
    future = torch.ones(tokens.shape[1], tokens.shape[1], dtype=torch.bool).triu(1)
    for layer in range(sizes["n_layer"]):
        block = f"transformer.h.{layer}"
        parts = mapped(normed(x, f"{block}.ln_1"), f"{block}.attn.c_attn").chunk(3, dim=-1)
        q, k, v = (part.unflatten(-1, (sizes["n_head"], -1)).transpose(1, 2) for part in parts)
        scores = (q @ k.mT / math.sqrt(q.shape[-1])).masked_fill(future, -math.inf)
        x = x + mapped((scores.softmax(-1) @ v).transpose(1, 2).flatten(2), f"{block}.attn.c_proj")
        hidden = F.gelu(mapped(normed(x, f"{block}.ln_2"), f"{block}.mlp.c_fc"), approximate=approximate)
        x = x + mapped(hidden, f"{block}.mlp.c_proj")
    return F.linear(normed(x, "transformer.ln_f"), state["lm_head.weight"])
