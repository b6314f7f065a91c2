"""Retention: linear attention that forgets at a rate of its own in every head."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minigpt.components.attention.recurrent.gated import GatedAttention, before_this
from minigpt.components.attention.recurrent.scan import RecurrentState, Scan
from minigpt.components.base import BuildContext, full_precision
from minigpt.components.call import Call
from minigpt.components.initialiser import Initialiser
from minigpt.cost import Work
from minigpt.registry import register
from minigpt.schema import PositiveInt, options


@register("attention", "retention")
class Retention(GatedAttention):
    """o_t = sum over s <= t of gamma^(t-s) <q_t, k_s> v_s / sqrt(d), y = W_o (norm(o) * act(W_g x)).

    Sun et al. 2023, arXiv:2307.08621: gamma = 1 - 2^(-5-h) in head h = 0, 1, ..., a norm per head in place of a
    denominator, swish gate (activation=silu); with position=xpos it is theirs in full, with rope without the decay that
    xpos has beside gamma.

    decay: ``fixed``, or ``learned`` from there on, gamma = sigmoid(l). gate: act(W_g x). Computed in chunks of
    ``chunk`` tokens; the state, one d x d matrix per head, does not grow with the context.

    x (B, T, C) -> q, k, v, o (B, H, T, d) -> (B, T, C). Learns q, k, v, g: (H d, C), o: (C, H d), the norm's gain; l:
    (H,) if asked for.
    """

    log_gamma: Tensor

    @options
    class Config:
        decay: Literal["fixed", "learned"] = "fixed"
        gate: bool = True
        chunk: PositiveInt = 64

    cases = [{"decay": "learned", "chunk": 5}, {"gate": False, "with": {"position": "nope"}}]
    changes = {"decay": "start", "chunk": "work"}  # learned decays start at the fixed ones

    def __init__(self, config: Config, ctx: BuildContext):
        super().__init__(ctx, config.gate)
        self.scan = Scan(ctx.n_head, ctx.head_dim, ctx.head_dim, config.chunk, "constant")
        self.decay_logit = nn.Parameter(torch.empty(ctx.n_head)) if config.decay == "learned" else None
        if self.decay_logit is None:
            self.register_buffer("log_gamma", torch.empty(ctx.n_head), persistent=False)

    def init_parameters(self, init: Initialiser) -> None:
        if self.decay_logit is not None:
            gamma = self._published()
            init.values(self.decay_logit, (gamma / (1 - gamma)).log().float(), "scalar")

    def init_buffers(self) -> None:
        if self.decay_logit is None:
            self.log_gamma.copy_(self._published().log())

    def _published(self) -> Tensor:
        """(H,): gamma as published."""
        return 1 - 2.0 ** (-5 - torch.arange(self.n_head, dtype=torch.float64))

    def forward(self, x: Tensor, call: Call, state: RecurrentState | None = None) -> Tensor:
        x = self.quantise["attention_input"](x)
        q, k, v = self._projected(x, call)
        with full_precision(x.device):
            log_gamma = self.log_gamma if self.decay_logit is None else F.logsigmoid(self.decay_logit)
            log_decay = log_gamma.to(v.dtype)[None, :, None].expand(1, -1, x.shape[1])  # (1, H, T)
            found, sums = self.scan.run(q / math.sqrt(self.head_dim), k, v, log_decay, before_this(state))
        if state is not None:
            state["sums"] = sums
        return self._read_out(found, x)

    def hardware_form(self, work: Work) -> dict[str, int]:
        """Torch scales every query, the hardware their matrix, and goes in chunks, see the scan's form."""
        found = self.scan.form(work)
        found["mul"] += work.all_tokens * self.n_head * self.head_dim
        return dict(found)
