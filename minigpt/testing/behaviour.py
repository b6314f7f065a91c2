"""What a variant does: it starts whole, trains, looks back only, and answers from its cache as it does in full."""

from __future__ import annotations

import torch
from torch import Tensor

from minigpt.components.base import Part
from minigpt.model import GPT
from minigpt.testing.cases import Case
from minigpt.testing.contract import STARTS_ONLY, contract, require
from minigpt.testing.models import (
    LONG,
    SHORT,
    SIZES,
    Mode,
    batch,
    create,
    decode,
    difference,
    loss_of,
    moved_model,
    other_tokens,
)

MODES = (
    Mode(rows=1, tokens=LONG, numbers="fp32", train=True, gradients=True),
    Mode(rows=2, tokens=LONG, numbers="bf16", train=True, gradients=True),
    Mode(rows=5, tokens=LONG, numbers="fp32"),
    Mode(rows=1, tokens=SHORT, numbers="bf16"),
    Mode(rows=5, tokens=SHORT, numbers="fp32", train=True, gradients=True),
    Mode(rows=2, tokens=SHORT, numbers="fp32", gradients=True),
    Mode(rows=3, tokens=SHORT, numbers="fp64", train=True),
)
"""Every pair of: one row, two or three, many; short, long; each format; training, evaluating; with and without
gradients."""

CHUNKS = {
    (3, 24): (5, 6, 8, *[1] * 5),
    (1, LONG): (7, 8, 9, 10, 11, 12, 13, 10),
    (5, LONG): (14, 2, 3, 4, 15, 40, 1, 1),
    (2, 72): (66, 1, 4, 1),
}
"""(rows, tokens) -> chunks of a cached decode: each length up to 15, past 64, and single tokens after each other."""

EXACT = 1e-6


@contract()
def check_starts(case: Case) -> None:
    """Builds without memory, then starts every parameter exactly once, at finite values."""
    spec = case.spec(**SIZES)
    shapes = {n: p.shape for n, p in GPT.on_meta(spec).named_parameters()}
    model = create(spec)  # refuses a parameter without a first value, or with two
    require({n: p.shape for n, p in model.named_parameters()} == shapes, "its parameters differ once it has memory")
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        require(tensor.device.type == "cpu", f"{name} is left on {tensor.device}")
        require(bool(tensor.isfinite().all()), f"{name} does not start finite")


@contract()
def check_gradients(case: Case) -> None:
    """Every trained parameter receives a finite gradient, in fp32 and under bf16 autocast."""
    for numbers in ("fp32", "bf16"):
        model = create(case.spec(**SIZES))
        model.return_also(spare(model))
        trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
        optimizer = torch.optim.SGD(trained.values(), lr=0.1)
        untouched = set(trained)
        for _ in range(3):  # what starts at zero lets gradients through from the second step on
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=numbers == "bf16"):
                loss = loss_of(model, batch())
            loss.backward()
            require(bool(loss.isfinite()), f"the loss is {loss.item()} in {numbers}")
            for name, parameter in trained.items():
                gradient = parameter.grad
                if gradient is None:
                    raise AssertionError(f"{name} is not part of the model's output")
                require(bool(gradient.isfinite().all()), f"the gradient of {name} is not finite in {numbers}")
                if gradient.count_nonzero():
                    untouched.discard(name)
            optimizer.step()
        require(not untouched, f"no gradient reaches {', '.join(sorted(untouched))} in {numbers}")


@contract(not_for=STARTS_ONLY)
def check_causal(case: Case) -> None:
    """No token sees the future, however the model is called."""
    for mode in MODES:
        tokens = batch(mode.rows, mode.tokens)
        before = mode.logits(case, tokens)
        for t in (1, mode.tokens // 2 - 1, mode.tokens - 1):
            after = mode.logits(case, other_tokens(tokens, t))
            require(
                difference(after[:, :t], before[:, :t]) <= EXACT,
                f"what comes from token {t} on changes what is said before it: a leak of the future ({mode})",
            )


@contract(not_for=STARTS_ONLY)
def check_causal_cached(case: Case) -> None:
    """No chunk of a cached decode sees the future, in the numbers a model is used in."""
    for (rows, length), chunks in CHUNKS.items():
        for mode in (Mode(rows, length, "fp32"), Mode(rows, length, "bf16")):
            tokens = batch(rows, length)
            with mode.applied(moved_model(case, mode.dtype)) as model:
                before = decode(model, tokens, chunks)
                for t in (length // 2, length - 1)[: 2 if mode.numbers == "fp32" else 1]:
                    after = decode(model, other_tokens(tokens, t), chunks)
                    require(
                        difference(after[:, :t], before[:, :t]) <= EXACT,
                        f"in chunks of {_listed(chunks)}, what comes from token {t} on changes what is said before it "
                        f"({mode})",
                    )


@contract(not_for=STARTS_ONLY)
def check_sees_itself(case: Case) -> None:
    """What is said at a token depends on that token, in full and from the cache."""
    tokens = batch(2)
    model = moved_model(case)
    with torch.no_grad():
        for run in (lambda t: model(t).logits, lambda t: decode(model, t, (5, 6, 1, 1, 1, 1, 1))):
            before = run(tokens)
            for t in (1, 7, SHORT - 1):
                changed = tokens.clone()
                changed[:, t] = (changed[:, t] + 1) % SIZES["vocab_size"]
                seen = difference(run(changed)[:, t], before[:, t])
                require(seen > 1e-4, f"token {t} does not see itself")


@contract(not_for=STARTS_ONLY)
def check_rows(case: Case) -> None:
    """The rows of a batch do not influence each other, in training, evaluation or decoding."""
    modes = [mode for mode in MODES if mode.rows > 1]
    for mode in modes:
        tokens, row = batch(mode.rows, mode.tokens), mode.rows // 2
        others = [r for r in range(mode.rows) if r != row]
        before, after = mode.logits(case, tokens), mode.logits(case, other_tokens(tokens, 0, row))
        sentence = f"another row {row} changes what is said in the other rows ({mode})"
        require(difference(after[others], before[others]) <= EXACT, sentence)
    model, tokens = moved_model(case), batch(3, 24)
    with torch.no_grad():
        before, after = (decode(model, t, CHUNKS[3, 24]) for t in (tokens, other_tokens(tokens, 0, 1)))
    sentence = "another row 1 changes what is said in the other rows of a cached decode"
    require(difference(after[[0, 2]], before[[0, 2]]) <= EXACT, sentence)


@contract(not_for=STARTS_ONLY)
def check_cached(case: Case) -> None:
    """A cached decode, in chunks of any length, says what the full forward says."""
    model = moved_model(case)
    for (rows, length), chunks in CHUNKS.items():
        tokens = batch(rows, length)
        with torch.no_grad():
            full, cached = model(tokens).logits, decode(model, tokens, chunks)
        _require_same(cached, full, f"a cached decode of {rows} rows in chunks of {_listed(chunks)}")


@contract(not_for=STARTS_ONLY)
def check_cached_apart(case: Case) -> None:
    """Two sequences decoded in turns, each with a state of its own, do not meet."""
    model = moved_model(case)
    texts = [batch(2, SHORT, seed) for seed in (2, 3)]
    states = [model.new_state(2, SHORT) for _ in texts]
    said: list[list[Tensor]] = [[], []]
    with torch.no_grad():
        for chunk in zip(*(text.split([5, 6, 1, 1, 1, 1, 1], dim=1) for text in texts), strict=True):
            for i, tokens in enumerate(chunk):
                said[i].append(model(tokens, states[i]).logits)
        for i, text in enumerate(texts):
            full = model(text).logits
            _require_same(torch.cat(said[i], dim=1), full, "a decode with another between its steps")


@contract(not_for=STARTS_ONLY)
def check_padding(case: Case) -> None:
    """Left padding changes nothing for real tokens."""
    model, length = moved_model(case), 24
    tokens, padding = batch(3, length), torch.tensor([0, 2, 5])
    padded = torch.zeros_like(tokens)
    for row, p in enumerate(padding.tolist()):
        padded[row, p:] = tokens[row, : length - p]
    with torch.no_grad():
        full, cached = model(tokens).logits, decode(model, padded, CHUNKS[3, length], padding)
    for row, p in enumerate(padding.tolist()):
        _require_same(cached[row, p:], full[row, : length - p], f"a row behind {p} tokens of padding")


@contract("defaults")
def check_learns(case: Case) -> None:
    """The loss on one fixed batch falls clearly within some steps, at the defaults."""
    model = create(case.spec(**SIZES | {"bias": False, "dropout": 0.0}))
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=4e-3)  # what does not normalise takes no more
    first = loss = loss_of(model, batch())
    enough = 0.6 if len(trained) == len(list(model.parameters())) else 0.95  # 0.6: less than tokens' frequencies give
    for _ in range(600):
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss = loss_of(model, batch())
        if loss < enough * first:
            return
    raise AssertionError(f"the loss on one batch went from {first:.2f} to {loss:.2f} only")


@contract("defaults", not_for=STARTS_ONLY)
def check_compiles(case: Case) -> None:
    """``torch.compile(fullgraph=True)`` gives the same numbers, unless a part declares that it does not compile."""
    model = create(case.spec(**SIZES | {"n_layer": 1})).double().eval()
    if not all(getattr(module, "compiles", True) for module in model.modules()):
        return
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        _require_same(compiled(batch()).logits, model(batch()).logits, "the compiled model")


def spare(model: GPT) -> frozenset[str]:
    """Tensors that parts hand on and no part takes: what a task may learn from."""
    return model.provides - frozenset().union(*(part.needs for part in model.modules() if isinstance(part, Part)))


def _require_same(found: Tensor, expected: Tensor, what: str) -> None:
    far = difference(found, expected)
    require(far <= EXACT, f"{what} says something else than the full forward, {far:.1e} of the largest logit apart")


def _listed(chunks: tuple[int, ...]) -> str:
    shown = ", ".join(str(c) for c in chunks[:8])
    return shown + (", ..." if len(chunks) > 8 else "")
