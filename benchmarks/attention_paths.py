"""Which way to attend: the fused kernel with grouped heads, with repeated heads, and the explicit path. ms, forward +
backward.

python -m benchmarks.attention_paths [rounds=15]

What attention/scores.py does follows from this table; run it again on another machine before changing that.
"""

from __future__ import annotations

import statistics
import sys
import time

import torch

from minigpt.components.attention.causal import CausalAttention
from minigpt.components.attention.scores import per_query_head
from minigpt.components.call import Span
from minigpt.model import GPT, ModelSpec
from minigpt.testing import make_spec

SHAPES = {"4 heads of 32, T 128, batch 16": (4, 128, 128, 16), "6 heads of 64, T 256, batch 8": (6, 384, 256, 8)}
OPTIONS = {"mha": {}, "mqa": {"n_kv_head": 1}, "window 32": {"window": 32}}


def main(rounds: int = 15) -> None:
    for shape, (n_head, d_model, tokens, batch) in SHAPES.items():
        print(shape)
        for name, options in OPTIONS.items():
            spec = make_spec(
                n_layer=1, n_head=n_head, d_model=d_model, block_size=tokens, attention={"name": "causal"} | options
            )
            times = {way: statistics.median(measured) for way, measured in compare(spec, batch, rounds).items()}
            print(f"  {name:>10}: " + ", ".join(f"{way} {1e3 * seconds:.2f}" for way, seconds in times.items()))


def compare(spec: ModelSpec, batch: int, rounds: int) -> dict[str, list[float]]:
    """Way -> seconds per round, the ways in turns."""
    attention: CausalAttention = GPT.create(spec).blocks[0].attention
    shape = (spec.head_dim,)
    q = torch.randn(batch, spec.n_head, spec.block_size, *shape, requires_grad=True)
    k, v = (torch.randn(batch, attention.n_kv_head, spec.block_size, *shape, requires_grad=True) for _ in range(2))
    span = Span(0, spec.block_size, torch.device("cpu"))

    def repeated(q, k, v, span, key_index):
        return attention.attend_fused(
            q, per_query_head(k, spec.n_head), per_query_head(v, spec.n_head), span, key_index
        )

    ways = {"fused": attention.attend_fused, "fused, heads repeated": repeated, "explicit": attention.attend_explicitly}
    times: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, attend in ways.items():
            began = time.perf_counter()
            attend(q, k, v, span, None).sum().backward()
            times[way].append(time.perf_counter() - began)
    return times


if __name__ == "__main__":
    main(**{key: int(value) for key, value in (argument.split("=") for argument in sys.argv[1:])})
