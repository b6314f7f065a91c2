"""What a variant says it costs, held to what is there and to what torch really does."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from minigpt.components.base import Part
from minigpt.cost import Cost, Work
from minigpt.model import GPT
from minigpt.testing.cases import Case
from minigpt.testing.census import Trace, followed
from minigpt.testing.contract import STARTS_ONLY, contract, require
from minigpt.testing.formats import claimed_formats, holds_format
from minigpt.testing.models import LONG, SHORT, batch, moved_model

ROWS, TOKENS = 2, 12
ALIKE = {"sub": "add", "div": "mul"}
"""Kinds that torch does not tell apart."""


@dataclasses.dataclass(frozen=True)
class _Noted(Cost):
    """A cost that remembers which part said it, and what that part's torch form has more or less."""

    part: str = ""
    form: Mapping[str, int] = dataclasses.field(default_factory=dict)


class Claims:
    """What every part of a model says one call costs, and what each says torch's form has more or less of.

    own: part -> its own cost, with what it prices under names that are no parts. form: the same for its hardware form.
    """

    def __init__(self, model: GPT, work: Work):
        with _noting(model):
            self.cost = model.cost(work)
        self.own: dict[str, list[Cost]] = defaultdict(list)
        self.form: dict[str, Counter[str]] = defaultdict(Counter)
        self._note(self.cost, "")

    @property
    def ops(self) -> Counter[str]:
        return _merged(self.cost.total.ops)

    @property
    def forms(self) -> Counter[str]:
        total: Counter[str] = Counter()
        for each in self.form.values():
            total.update(_merged(each))
        return total

    def activations(self, part: str) -> int:
        return sum(cost.activations for cost in self.own[part]) + self.form[part]["activations"]

    def _note(self, cost: Cost, part: str) -> None:
        if isinstance(cost, _Noted):
            part = cost.part
            self.form[part].update(cost.form)
        self.own[part].append(dataclasses.replace(cost, parts={}))
        for each in cost.parts.values():
            self._note(each, part)


@contextlib.contextmanager
def _noting(model: GPT) -> Iterator[None]:
    """Every part's cost comes with the part's name."""
    parts = [(name, part) for name, part in model.named_modules() if isinstance(part, Part)]
    for name, part in parts:
        part.cost = _noted(name, part, part.cost)  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        for _, part in parts:
            del part.cost


def _noted(name: str, part: Part, cost: Callable[[Work], Cost]) -> Callable[[Work], Cost]:
    def note(work: Work) -> Cost:
        answer = cost(work)
        fields = {field.name: getattr(answer, field.name) for field in dataclasses.fields(Cost)}
        return _Noted(**fields, part=name, form=part.hardware_form(work))

    return note


def dense(rows: int, tokens: int, context: int | None = None) -> Work:
    """A call counted as torch computes it in fp32: masked products too."""
    return Work(rows, tokens, context or tokens, dense=True, cache_bits=32)


@functools.lru_cache(maxsize=4)
def measured(case: Case, bias: bool) -> tuple[Trace, Claims]:
    """One forward of a small batch: what torch does, and what the parts say."""
    model, tokens = moved_model(case, torch.float32, bias), batch(ROWS, TOKENS)
    with torch.no_grad(), followed(model, tokens) as trace:
        logits = model(tokens).logits
    trace.hand_out(logits)
    return trace, Claims(model, dense(ROWS, TOKENS))


@contract(not_for=STARTS_ONLY)
def check_parameters(case: Case) -> None:
    """The parameters counted are those there, and those read are those used."""
    for bias in (True, False):
        model = moved_model(case, torch.float32, bias)
        trace, claims = measured(case, bias)
        there, said = sum(p.numel() for p in model.parameters()), claims.cost.total.params
        require(said == there, f"cost() says {said} parameters, there are {there}")
        read = sum(claims.cost.total.weights_read.values()) + claims.forms["weights_read"]
        least, most = trace.weights_read
        sentence = f"cost() says {read} weights are read in a call of {ROWS} x {TOKENS} tokens, {least} are"
        require(least <= read <= most, sentence)
        _require_formats(model, claims)


@contract(not_for=STARTS_ONLY)
def check_products(case: Case) -> None:
    """Multiply-accumulates are those of torch's own counter, in a prefill and in a decode step."""
    for bias in (True, False):
        model = moved_model(case, torch.float32, bias)
        _require_flops(model, "a prefill", dense(3, SHORT), batch(3, SHORT), None)
        state = model.new_state(3, SHORT)
        with torch.no_grad():
            model(batch(3, 11), state)
        _require_flops(model, "a decode step", dense(3, 1, 12), batch(3, 1), state)


@contract(not_for=STARTS_ONLY)
def check_decode_adds_up(case: Case) -> None:
    """A prefill costs what its tokens cost one by one, unless decoding has a form of its own (``decode_form``)."""
    model = GPT.on_meta(case.spec(block_size=LONG))
    if any(part.decode_form for part in model.modules() if isinstance(part, Part)):
        return
    prefill = model.cost(Work(1, SHORT, SHORT)).total
    steps = [model.cost(Work(1, 1, t + 1)).total for t in range(SHORT)]
    require(prefill.macs == sum(s.macs for s in steps), _unequal("multiply-accumulates", prefill.macs, steps[0].macs))
    require(prefill.params == steps[0].params, "the parameters of a decode step are not those of a prefill")
    for op, count in prefill.ops.items():
        found = sum(step.ops[op] for step in steps)
        require(count == found, _unequal(op, count, found))


@contract(not_for=STARTS_ONLY)
def check_operations(case: Case) -> None:
    """The operations counted are those torch dispatches, up to what ``hardware_form`` states."""
    for bias in (False, True):
        trace, claims = measured(case, bias)
        require(
            not trace.unknown, f"the census cannot count {', '.join(sorted(trace.unknown))}: use simpler operations"
        )
        difference = Counter(trace.total)
        difference.subtract(claims.ops)
        difference.subtract({op: n for op, n in claims.forms.items() if op not in _NO_OPERATION})
        found = ", ".join(f"{n:+d} {op}" for op, n in sorted(difference.items()) if n)
        require(not found, f"torch does {found} beside what cost() and hardware_form() say{_where(trace, claims)}")


@contract(not_for=STARTS_ONLY)
def check_reductions(case: Case) -> None:
    """A part that says how many reductions a row has to wait for says the same in its cost."""
    model = moved_model(case, torch.float32, bias=False)
    _, claims = measured(case, bias=False)
    for name, part in model.named_modules():
        for cost in claims.own.get(name, ()) if hasattr(part, "reductions") else ():
            sentence = f"{name} says {part.reductions} reductions, its cost() {cost.reductions}"
            require(cost.reductions == part.reductions, sentence)


@contract(not_for=STARTS_ONLY)
def check_activations(case: Case) -> None:
    """Activations are at least what a part as one kernel must take in and hand out, and no part pays for two."""
    for bias in (True, False):
        trace, claims = measured(case, bias)
        for part in sorted({*claims.own} - {""}):
            said, least = claims.activations(part), trace.exchanged(part)
            require(said >= least, f"{part} says {said} activations, and exchanges {least} at least")
        most = sum(trace.exchanged(part, streams=True) for part in ("", *claims.own))
        total = claims.cost.total.activations
        require(total <= 1.2 * most, f"cost() says {total} activations in all, no more than {most} cross between parts")


def _require_formats(model: GPT, claims: Claims) -> None:
    parts = dict(model.named_modules())
    for name, costs in claims.own.items():
        for fmt in sorted({fmt for cost in costs for fmt in claimed_formats(cost)}):
            sentence = holds_format(parts[name], fmt)
            require(not sentence, f"{name} says its weights are {fmt}: {sentence}")


def _require_flops(model: GPT, what: str, work: Work, tokens: Tensor, state: Any) -> None:
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        model(tokens, state)
    said, found = model.cost(work).flops, counter.get_total_flops()
    require(said == found, f"cost() says {said} FLOPs for {what}, torch computes {found}")


def _unequal(what: str, prefill: int, steps: int) -> str:
    return f"a prefill of {SHORT} tokens counts {prefill} {what}, its {SHORT} decode steps {steps}"


_NO_OPERATION = {"activations", "weights_read", "state_read_bits", "state_written_bits"}


def _merged(ops: Any) -> Counter[str]:
    merged: Counter[str] = Counter()
    for op, count in ops.items():
        merged[ALIKE.get(op, op)] += count
    return merged


def _where(trace: Trace, claims: Claims) -> str:
    """The parts whose own counts are off, to help finding the mistake."""
    lines = []
    for part in sorted({*trace.ops, *claims.own}):
        off = Counter(trace.ops.get(part, {}))
        for cost in claims.own.get(part, ()):
            off.subtract(_merged(cost.ops))
        off.subtract({op: n for op, n in _merged(claims.form[part]).items() if op not in _NO_OPERATION})
        if any(off.values()):
            lines.append(f"\n  {part or 'the model'}: " + ", ".join(f"{n:+d} {op}" for op, n in off.items() if n))
    return "".join(lines)
