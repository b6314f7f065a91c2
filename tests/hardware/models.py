"""Cost trees written from the documented formulas, without any component: what the hardware room is tried on."""

from __future__ import annotations

from collections.abc import Callable

from minigpt.cost import Cost, Matmul, Work

LLAMA_2_7B = 6_738_415_616 - 32_000 * 4096
"""Weights a decode step of Llama-2-7B reads: all 6 738 415 616 parameters but the input embedding."""
LLAMA_3_1_8B = 8_030_261_248 - 128_256 * 4096


def decode_of_weights(weights: int) -> Cost:
    """A decode step that reads ``weights`` elements once and multiplies each with one activation."""
    return Cost(params=weights, weights_read={"native": weights}, matmuls=(Matmul(1, weights // 4096, 4096),))


def softmax(n: int, rows: int) -> Cost:
    """Three walks: maximum, exponential and sum, division by one reciprocal per row."""
    ops = {"max": n, "sub": n, "exp": n, "add": n, "mul": n, "recip": rows}
    return Cost(ops=ops, activations=2 * n, reductions=2, passes=3)


def softermax(n: int, rows: int) -> Cost:
    """Base two with a running maximum: one walk, then the division."""
    ops = {"max": n, "sub": n, "exp2": n, "add": n, "mul": n, "recip": rows}
    return Cost(ops=ops, activations=2 * n, reductions=2, passes=2)


def consmax(n: int, rows: int) -> Cost:
    """The product of two table reads, nothing reduced."""
    return Cost(ops={"lut": 2 * n, "mul": n}, activations=2 * n, passes=1)


def gpt(
    n_layer: int = 12, d: int = 768, heads: int = 12, vocabulary: int = 50257, block_size: int = 1024,
    weights: Callable[[int, int], Cost] = softmax,
) -> Callable[[Work], Cost]:  # fmt: skip
    """GPT-2 with biases, tied head: 124 439 808 parameters at the defaults."""

    def cost(work: Work) -> Cost:
        tokens, rows = work.all_tokens, work.batch * heads * work.tokens
        scores, width = work.batch * heads * work.pairs(), d // heads
        norm = Cost(
            params=2 * d, weights_read={"native": 2 * d},
            ops={"add": 4 * tokens * d, "mul": 3 * tokens * d, "rsqrt": tokens},
            activations=2 * tokens * d, reductions=2, passes=2,
        )  # fmt: skip
        state = 2 * work.batch * d * work.cache_bits
        cached = work.cache_bits if work.context > work.tokens else None
        products = [(work.tokens, width, work.context), (work.tokens, work.context, width)]
        attention = Cost(
            matmuls=tuple(Matmul(*p, work.batch * heads, scores * width, None, cached) for p in products),
            state_bits=state * work.context, state_read_bits=state * work.context,
            state_written_bits=state * work.tokens,
            activations=4 * tokens * d,
            parts={"qkv": _linear(tokens, d, 3 * d), "softmax": weights(scores, rows), "out": _linear(tokens, d, d)},
        )  # fmt: skip
        hidden = tokens * 4 * d
        gelu = Cost(ops={"mul": 4 * hidden, "add": 2 * hidden, "tanh": hidden}, activations=2 * hidden, passes=1)
        mlp = Cost(parts={"up": _linear(tokens, d, 4 * d), "activation": gelu, "down": _linear(tokens, 4 * d, d)})
        block = Cost(
            ops={"add": 2 * tokens * d}, activations=6 * tokens * d,
            parts={"norm1": norm, "attention": attention, "norm2": norm, "mlp": mlp},
        )  # fmt: skip
        last = work.batch if work.last_only else tokens
        head = Cost(
            weights_read={"native": vocabulary * d}, matmuls=(Matmul(last, d, vocabulary),),
            activations=last * (d + vocabulary),
        )  # fmt: skip
        tables = {
            "embedding": Cost(params=vocabulary * d, weights_read={"native": tokens * d}, activations=tokens * d),
            "position": Cost(params=block_size * d, weights_read={"native": tokens * d}, ops={"add": tokens * d}),
        }
        return Cost(parts=tables | {f"blocks.{i}": block for i in range(n_layer)} | {"final_norm": norm, "head": head})

    return cost


def _linear(m: int, k: int, n: int) -> Cost:
    held = k * n + n
    return Cost(
        params=held, weights_read={"native": held}, matmuls=(Matmul(m, k, n),), ops={"add": m * n},
        activations=m * (k + n),
    )  # fmt: skip
