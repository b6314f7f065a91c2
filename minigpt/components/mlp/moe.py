"""A mixture of experts: every token goes through a few MLPs of many."""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minigpt import registry
from minigpt.components.base import BuildContext, full_precision
from minigpt.components.call import Call
from minigpt.components.mlp.base import FeedForward
from minigpt.cost import Cost, Work
from minigpt.errors import UserError
from minigpt.registry import register
from minigpt.schema import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, Range, options


@register("mlp", "moe")
class MixtureOfExperts(FeedForward):
    """y = sum_e w_e expert_e(x) over the ``top_k`` experts of highest score.  Shazeer et al. 2017, arXiv:1701.06538;
    Mixtral, arXiv:2401.04088.

    router: ``softmax`` scores p = softmax(W_r x); ``sigmoid`` each expert by itself, sigmoid(W_r x)
    (DeepSeek-V3, arXiv:2412.19437); ``noisy`` adds N(0, 1) softplus(W_n x) to softmax's W_r x, in training only. w are
    the scores of the chosen, with ``normalise`` divided by their sum. Scores are fp32 at least.

    expert: what each is, a ``glu`` or an ``mlp``. hidden: width of one; None is expansion * d_model /
    (top_k + shared_experts) rounded up to a multiple of 8, which gives a token the products of one MLP of that
    expansion; expansion: None is 8/3 for glu, 4 for mlp. shared_experts: so many that every token goes through,
    unweighted, as one wider expert (DeepSeekMoE, arXiv:2401.06066).

    balance weighs the loss E sum_e f_e P_e, f_e the share of choices and P_e the mean share of the scores that expert e
    gets, 1 when even (Switch, arXiv:2101.03961); z_loss weighs mean logsumexp(W_r x)^2 (arXiv:2202.08906). In training
    f is logged as ``expert_load``. capacity c: in training an expert takes at most c T top_k / E tokens of a text,
    rounded up, the earliest; the choice of a later one is dropped. No token's place hangs on later tokens or other
    texts, and outside of training nothing is dropped.

    Tokens are sorted by expert, and each expert computes its own at once; torch waits for their numbers once per call.
    A call reads the router and the weights of at most tokens * top_k experts; all are counted as if they were different
    ones, up to E.

    x (N, d_model) -> scores (N, E) -> rows of x, sorted (N top_k, d_model) -> (N, d_model). Learns router W_r, and
    noisy W_n: (E, d_model), and what each expert does: gate, up: (hidden, d_model), down: (d_model, hidden).
    """

    uses = frozenset({"linear", "mlp"})
    compiles = False  # how many tokens an expert gets follows from the data
    pooled = "experts"

    @options
    class Config:
        experts: Annotated[int, Range(ge=2, le=4096)] = 8
        top_k: PositiveInt = 2
        shared_experts: NonNegativeInt = 0
        expert: Literal["glu", "mlp"] = "glu"
        expansion: Annotated[float, Range(gt=0, le=1024)] | None = None
        hidden: PositiveInt | None = None
        router: Literal["softmax", "sigmoid", "noisy"] = "softmax"
        normalise: bool = True
        capacity: PositiveFloat | None = None
        balance: NonNegativeFloat = 0.01
        z_loss: NonNegativeFloat = 0.001

    cases = [
        {"experts": 4, "hidden": 16, "router": "sigmoid", "shared_experts": 1},
        {"top_k": 1, "normalise": False, "capacity": 1.0},
        {"router": "noisy", "expert": "mlp", "expansion": 2.0},
        {"balance": 0.1, "z_loss": 0.1},
    ]
    changes = {"balance": "gradient", "z_loss": "gradient"}

    def __init__(self, config: Config, ctx: BuildContext):
        super().__init__()
        _refuse_what_does_nothing(config)
        self.config, self.count, self.top_k = config, config.experts, config.top_k
        expansion = config.expansion or (8 / 3 if config.expert == "glu" else 4.0)
        active = config.top_k + config.shared_experts
        self.hidden = config.hidden or math.ceil(expansion * ctx.d_model / active / 8 - 1e-9) * 8
        self.router = self._scorer(ctx)
        self.noise = self._scorer(ctx) if config.router == "noisy" else None
        self.experts: Any = nn.ModuleList(_expert(config, self.hidden, ctx) for _ in range(self.count))
        self.shared = _expert(config, config.shared_experts * self.hidden, ctx) if config.shared_experts else None
        self.width = ctx.d_model

    def _scorer(self, ctx: BuildContext) -> Any:
        return ctx.linear(ctx.d_model, self.count, site="router", role="router", bias=False, only_site=True)

    def forward(self, x: Tensor, call: Call) -> Tensor:
        rows = x.flatten(0, -2)  # (N, d_model)
        logits, scores = self.score(rows)
        weights, chosen = scores.topk(self.top_k, dim=-1)  # (N, k)
        if self.config.normalise:
            weights = weights / weights.sum(dim=-1, keepdim=True)
        if self.training:
            self._record(logits, scores, chosen, call)
            if self.config.capacity is not None:
                kept = self._has_room(chosen.unflatten(0, x.shape[:-1])).flatten(0, -2)
                weights, chosen = weights * kept, chosen.masked_fill(~kept, self.count)  # of no expert
        y = self.mixed(rows, weights, chosen, call).unflatten(0, x.shape[:-1])
        return y if self.shared is None else y + self.shared(x, call)

    def score(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """(N, d_model) -> logits and scores of the experts, (N, E) each."""
        with full_precision(rows.device):
            logits = _wide(self.router(rows.to(_dtype(self.router))))
            if self.noise is not None and self.training:
                logits = logits + torch.randn_like(logits) * F.softplus(_wide(self.noise(rows.to(_dtype(self.noise)))))
            if self.config.router == "sigmoid":
                return logits, logits.sigmoid()
            return logits, logits.softmax(dim=-1)

    def mixed(self, rows: Tensor, weights: Tensor, chosen: Tensor, call: Call) -> Tensor:
        """rows: (N, d_model). weights, chosen: (N, k), E where no expert is -> (N, d_model)."""
        chosen = chosen.flatten()
        order = chosen.argsort(stable=True)  # (N k,): pairs of a token and an expert, sorted by expert
        back = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
        loads = torch.bincount(chosen, minlength=self.count + 1).tolist()
        sorted_rows = _Gathered.apply(rows, order // self.top_k, back, self.top_k)
        *groups, dropped = sorted_rows.split(loads)
        every = torch.is_grad_enabled() or not len(rows)  # an expert without tokens has a gradient, of zero
        working = [e for e in range(self.count) if loads[e] or every]
        y = torch.cat([self.experts[e](groups[e], call) for e in working])  # (N k, d_model)
        if len(dropped):
            y = torch.cat([y, torch.zeros_like(dropped, dtype=y.dtype)])
        y = _Gathered.apply(y, back, order, 1).unflatten(0, (-1, self.top_k))  # (N, k, d_model)
        return (weights[..., None] * y).sum(dim=1).to(y.dtype)

    def _has_room(self, chosen: Tensor) -> Tensor:
        """chosen: (B, T, k) -> whether each expert chosen has not been full with earlier tokens of the text."""
        tokens = chosen.shape[-2]
        room = math.ceil((self.config.capacity or 0) * tokens * self.top_k / self.count)
        every = torch.arange(self.count, device=chosen.device)
        taken = (chosen[..., None] == every).any(dim=-2).cumsum(dim=-2)  # (B, T, E): up to each token
        return taken.gather(-1, chosen) <= room

    def _record(self, logits: Tensor, scores: Tensor, chosen: Tensor, call: Call) -> None:
        load = torch.bincount(chosen.flatten(), minlength=self.count).to(scores.dtype) / chosen.numel()  # (E,)
        call.record("expert_load", metric=load)
        if self.config.balance:
            share = scores / scores.sum(dim=-1, keepdim=True)
            balance = self.count * (load * share.mean(dim=0)).sum()
            call.record("balance", loss=balance, weight=self.config.balance)
        if self.config.z_loss:
            call.record("router_z", loss=logits.logsumexp(dim=-1).square().mean(), weight=self.config.z_loss)

    def hardware_form(self, work: Work) -> dict[str, int]:
        """Torch divides by the sums instead of taking one reciprocal per row, and has the sigmoid as one operation."""
        rows = work.all_tokens
        if self.config.router == "sigmoid":
            n = rows * self.count
            return {"sigmoid": n, "exp": -n, "add": -n, "recip": -n - rows * self.config.normalise}
        return {"recip": -rows - rows * self.config.normalise}

    def cost(self, work: Work) -> Cost:
        rows, n = work.all_tokens, work.all_tokens * self.count
        pairs = rows * self.top_k
        ops = {"max": n, "exp": n, "add": n, "mul": pairs * self.width}  # the choice; scores; the weighted sum
        if self.config.router == "sigmoid":
            ops["recip"] = n
        else:
            ops |= {"max": 2 * n, "sub": n, "mul": ops["mul"] + n, "recip": rows}
        ops["add"] += pairs * self.width
        if self.config.normalise:
            ops |= {"add": ops["add"] + pairs, "mul": ops["mul"] + pairs, "recip": ops["recip"] + rows}
        parts = {"router": self.router.cost(work)}
        if self.noise is not None:  # at rest outside of training
            parts["noise"] = Cost(params=self.noise.own_params())
        sorted_rows = dataclasses.replace(work, batch=1, tokens=pairs, context=pairs)
        parts["experts.0"] = _pooled(self.experts[0].cost(sorted_rows), self.count, min(self.count, pairs))
        activations = (2 * rows + 2 * pairs) * self.width + n
        if self.shared is not None:
            parts["shared"] = self.shared.cost(work)
            ops["add"] += rows * self.width
            activations += rows * self.width
        return Cost(ops=ops, activations=activations, reductions=2, passes=2, parts=parts)


class _Gathered(torch.autograd.Function):
    """Rows of x by index, each taken ``copies`` times. Its gradient gathers, too, by ``back``: adding up in any order
    would give a GPU other numbers each time."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor, back: Tensor, copies: int) -> Tensor:
        ctx.save_for_backward(back)
        ctx.copies = copies
        return x.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (back,) = ctx.saved_tensors
        gathered = gradient.index_select(0, back)
        return gathered if ctx.copies == 1 else gathered.unflatten(0, (-1, ctx.copies)).sum(dim=1), None, None, None


def _expert(config: MixtureOfExperts.Config, hidden: int, ctx: BuildContext) -> FeedForward:
    return registry.build(registry.spec("mlp", {"name": config.expert, "hidden": hidden}), ctx)


def _pooled(cost: Cost, count: int, used: int) -> Cost:
    """Of all experts, from what one would cost that did the work of all: ``used`` of ``count`` read their weights."""
    return dataclasses.replace(
        cost,
        params=cost.params * count,
        narrow_params={fmt: n * count for fmt, n in cost.narrow_params.items()},
        weights_read={fmt: n * used for fmt, n in cost.weights_read.items()},
        parts={name: _pooled(part, count, used) for name, part in cost.parts.items()},
    )


def _refuse_what_does_nothing(config: MixtureOfExperts.Config) -> None:
    if config.top_k >= config.experts:
        raise UserError(
            f"mlp.top_k: {config.top_k} of mlp.experts={config.experts} leaves nothing to choose. "
            f"Take at most {config.experts - 1}, or more experts"
        )
    if config.top_k == 1 and config.normalise:
        raise UserError(
            "mlp.normalise: the weight of a single expert would always be 1, and the router would not learn from the "
            "loss. Set mlp.normalise=false, or mlp.top_k=2"
        )
    if config.hidden is not None and config.expansion is not None:
        raise UserError(
            "mlp.expansion: does nothing beside mlp.hidden, which says the width itself. Leave one of them out"
        )
    if config.capacity is not None and config.capacity * config.top_k >= config.experts:
        raise UserError(
            f"mlp.capacity: {config.capacity:g} times top_k={config.top_k} gives each of experts={config.experts} room "
            f"for every token and would do nothing. Take less than {config.experts / config.top_k:g}, or null"
        )


def _dtype(linear: Any) -> torch.dtype:
    return next(linear.parameters()).dtype


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
