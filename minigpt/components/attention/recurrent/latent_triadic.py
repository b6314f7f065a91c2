"""Latent queries that question, keys and values modulate each other before a token asks: Co4, made causal."""

from __future__ import annotations

import math
from collections import Counter
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minigpt.components.attention.base import Attention
from minigpt.components.attention.recurrent.gated import before_this, without_padding
from minigpt.components.attention.recurrent.scan import STATE_BITS, RecurrentState, Scan, as_heads, widened
from minigpt.components.base import BuildContext, full_precision
from minigpt.components.call import Call
from minigpt.components.initialiser import Initialiser
from minigpt.cost import Cost, Matmul, Work
from minigpt.registry import register
from minigpt.schema import PositiveInt, options


@register("attention", "latent_triadic", aliases=["co4"])
class LatentTriadic(Attention):
    """y_t = sum over latents l of a_tl (sum over s <= t of w_ls v'_s) / (sum over s <= t of w_ls).

    After Adeel 2025 (Co4), arXiv:2505.06257, where learned latent queries Q, keys K and values V modulate each other
    and the latents attend to all tokens, later ones too. Here a token knows what is before it by running means alone:

        q'_ls = MOD(Q_l, mean k + mean v), k'_s = MOD(k_s, mean Q + mean v), v'_s = MOD(v_s, mean Q + mean k)

    with means of k and v over the tokens up to s and of Q over the ``n_latent`` latents; ``loops`` times, each with the
    means of what the one before made. Latent l weighs token s by w_ls = elu(q'_ls . k'_s / sqrt(d)) + 1, token t asks
    latent l by a_tl = softmax over l of q_t . Q_l / sqrt(d).

    modulation: MOD(r, c) of a receptive field r by its context c. ``cooperative``: r^2 + 2 r + c (1 + |r|), cut to
    0..6; ``tanh``: r (1 + tanh(r c)) (Kay & Phillips 2020), where context alone says nothing; ``additive``: r + c.

    It turns nothing by position: a mean knows no order. The state, the running sums, does not grow with the context;
    computed in chunks of ``chunk`` tokens.

    x (B, T, C) -> q, k, v (B, H, T, d), w, a (B, H, T, L) -> y (B, H, T, d) -> (B, T, C). Learns q, k, v: (H d, C), o:
    (C, H d) and the latents Q: (H, L, d), L = ``n_latent``.
    """

    uses = frozenset({"linear"})

    @options
    class Config:
        n_latent: PositiveInt = 4
        loops: PositiveInt = 1
        modulation: Literal["cooperative", "tanh", "additive"] = "cooperative"
        chunk: PositiveInt = 64

    cases = [
        {"n_latent": 3, "loops": 2, "chunk": 5},
        {"modulation": "tanh", "loops": 2},
        {"modulation": "additive"},
    ]
    changes = {"chunk": "work"}

    def __init__(self, config: Config, ctx: BuildContext):
        super().__init__()
        self.n_head, self.head_dim, self.n_latent = ctx.n_head, ctx.head_dim, config.n_latent
        self.loops, self.modulation = config.loops, config.modulation
        self.scan = Scan(ctx.n_head, config.n_latent, ctx.head_dim, config.chunk)
        inner = ctx.n_head * ctx.head_dim
        self.q = ctx.linear(ctx.d_model, inner, site="q")
        self.k = ctx.linear(ctx.d_model, inner, site="k")
        self.v = ctx.linear(ctx.d_model, inner, site="v")
        self.latents = nn.Parameter(torch.empty(ctx.n_head, config.n_latent, ctx.head_dim))
        self.o = ctx.linear(inner, ctx.d_model, site="o", role="residual_out")

    @property
    def path(self) -> str:
        return self.scan.path

    def init_parameters(self, init: Initialiser) -> None:
        init.matrix(self.latents, "embedding", fan_in=self.head_dim)

    def new_state(self, batch: int, capacity: int, device: torch.device, dtype: torch.dtype) -> RecurrentState:
        """sums: (B, H, L, d) of w v'. weights: (B, H, 1, L) of w. seen: (B, loops, 2, H, 1, d) of k and v."""
        weights = torch.zeros(batch, self.n_head, 1, self.n_latent, device=device)
        seen = torch.zeros(batch, self.loops, 2, self.n_head, 1, self.head_dim, device=device)
        return RecurrentState(sums=self.scan.start(batch, device), weights=weights, seen=seen)

    def forward(self, x: Tensor, call: Call, state: RecurrentState | None = None) -> Tensor:
        q, k, v = (widened(as_heads(linear(x), self.n_head)) for linear in (self.q, self.k, self.v))
        with full_precision(x.device):
            y = self._attend(q, without_padding(k, call), without_padding(v, call), call, state)
        return self.o(y.to(x.dtype).transpose(1, 2).flatten(2))

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, call: Call, state: RecurrentState | None) -> Tensor:
        """(B, H, T, d) each, at least fp32 -> (B, H, T, d)."""
        latents, scale = self.latents.to(q.dtype), 1 / math.sqrt(self.head_dim)
        asked = torch.softmax(q @ (latents * scale).transpose(-2, -1), dim=-1)  # (B, H, T, L)
        latents, k, v = self._modulated(latents[:, None], k, v, call, state)
        scores = (latents * (k * scale)[:, :, :, None]).sum(dim=-1)  # (B, H, T, L)
        weights = without_padding(F.elu(scores) + 1, call)
        seen = weights.cumsum(dim=2)
        if state is not None:
            seen = seen + state["weights"]
            state["weights"] = seen[:, :, -1:].clone()
        y, sums = self.scan.run(asked / seen.clamp_min(1e-6), weights, v, None, before_this(state))
        if state is not None:
            state["sums"] = sums
        return y

    def _modulated(
        self, latents: Tensor, k: Tensor, v: Tensor, call: Call, state: RecurrentState | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """latents: (H, 1, L, d), k, v: (B, H, T, d) -> latents (B, H, T, L, d), k, v as context has made them."""
        count = (call.span.positions + 1).to(k.dtype)  # (T,) or (B, T): tokens seen
        count = count[..., None] if count.ndim == 1 else count[:, None, :, None]
        kept = []
        for loop in range(self.loops):
            sums = [k.cumsum(dim=2), v.cumsum(dim=2)]
            if state is not None:
                sums = [each + state["seen"][:, loop, i] for i, each in enumerate(sums)]
                kept.append(torch.stack([each[:, :, -1:] for each in sums], dim=1))
            k_mean, v_mean = (each / count for each in sums)
            question = latents.mean(dim=-2)  # (B, H, T, d), or (H, 1, d) as they are learned
            latents = self._mod(latents, (k_mean + v_mean)[:, :, :, None])
            k, v = self._mod(k, question + v_mean), self._mod(v, question + k_mean)
            k, v = without_padding(k, call), without_padding(v, call)
        if state is not None:
            state["seen"] = torch.stack(kept, dim=1)
        return latents, k, v

    def _mod(self, field: Tensor, context: Tensor) -> Tensor:
        if self.modulation == "cooperative":
            return (field * field + 2 * field + context * (1 + field.abs())).clamp(0, 6)
        return field * (1 + torch.tanh(field * context)) if self.modulation == "tanh" else field + context

    def hardware_form(self, work: Work) -> dict[str, int]:
        """Torch has its own elu (see FEATURE_MAPS of linear attention), scales every key, divides instead of taking
        reciprocals, and by counts whose reciprocals are a table of the hardware; it guards the sums of weights, and
        adds up chunks (see Scan)."""
        rows = work.all_tokens * self.n_head
        each = rows * self.n_latent
        found = self.scan.form(work)
        found.update({"select": each, "mul": 3 * each, "cmp": each, "recip": -each - rows, "lut": -work.all_tokens})
        found["mul"] += rows * self.head_dim
        return dict(found)

    def cost(self, work: Work) -> Cost:
        rows = work.all_tokens * self.n_head
        n, each = rows * self.head_dim, rows * self.n_latent
        wide = n * self.n_latent
        ops = Counter({"max": each, "add": 2 * each, "exp": each, "mul": each, "recip": rows})  # asked
        ops.update({"mul": wide, "add": wide})  # scores
        ops.update({"exp": each, "cmp": each, "add": 2 * each})  # elu + 1, their sum
        ops.update({"mul": each, "recip": each, "lut": work.all_tokens})  # asked / seen; one over the tokens seen
        for loop in range(self.loops):
            ops.update({"add": 5 * n, "mul": 2 * n})  # running sums, means, contexts
            ops.update(self._mod_ops(2 * n, 2 * n))
            ops.update(self._mod_ops(wide, wide if loop else 0))
            if loop:
                ops.update({"add": wide, "mul": n})  # the latents' mean
        state_bits = self.scan.state_bits(work.batch)
        state_bits += STATE_BITS * work.batch * self.n_head * (self.n_latent + 2 * self.loops * self.head_dim)
        return Cost(
            params=self.own_params(),
            weights_read={"native": self.own_params()},
            matmuls=(
                Matmul(work.tokens, self.head_dim, self.n_latent, work.batch * self.n_head),
                *self.scan.products(work),
            ),
            ops=ops,
            state_bits=state_bits,
            state_read_bits=state_bits if work.context > work.tokens else 0,
            state_written_bits=state_bits,
            activations=4 * n,
            parts={name: getattr(self, name).cost(work) for name in ("q", "k", "v", "o")},
        )

    def _mod_ops(self, n: int, varying: int) -> dict[str, int]:
        """Operations of ``n`` modulations, where ``varying`` fields are no constants of the model."""
        if self.modulation == "cooperative":
            return {"mul": n + 2 * varying, "add": n + 2 * varying, "abs": varying, "cmp": n}
        return {"mul": 2 * n, "tanh": n, "add": n} if self.modulation == "tanh" else {"add": n}
