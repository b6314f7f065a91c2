"""Variants of a few lines each that lean on one seam apiece: what layers hand on and record, and what rewrites them.

A plugin like anyone's: ``plugins=[tests.seams]``.
"""

from __future__ import annotations

import dataclasses
import math

import torch
import torch.nn.functional as F
from torch import nn

from minigpt.components.attention.causal import CausalAttention
from minigpt.components.base import Part
from minigpt.components.head.base import Head
from minigpt.components.linear.base import LinearMap
from minigpt.components.mlp.base import FeedForward
from minigpt.components.position.base import Position
from minigpt.components.residual.base import Residual
from minigpt.cost import Cost, Matmul, without_params
from minigpt.registry import register
from minigpt.schema import NonNegativeFloat, PositiveInt, options
from minigpt.transforms.base import Transform, linears


class Attention(CausalAttention):
    """Causal attention with two of its options."""

    @options
    class Config:
        n_kv_head: PositiveInt | None = None
        qk_norm: bool = False

    cases = [{"n_kv_head": 2}, {"qk_norm": True}]

    def __init__(self, config, ctx):
        super().__init__(CausalAttention.Config(n_kv_head=config.n_kv_head, qk_norm=config.qk_norm), ctx)


@register("attention", "value_residual")
class ValueResidual(Attention):
    """v = (1 - s) v + s v_first, s learned: later layers mix in the first one's values.  arXiv:2410.17897."""

    provides = frozenset({"first_values"})
    needs = frozenset({"first_values"})

    def __init__(self, config, ctx):
        super().__init__(config, ctx)
        self.share = None
        if "first_values" in ctx.provided:
            self.provides = frozenset()
            self.share = nn.Parameter(torch.empty(1))
        else:
            self.needs = frozenset()

    def init_parameters(self, init):
        if self.share is not None:
            init.constant(self.share, 0.5, "scalar")

    def project(self, x, call):
        q, k, v = super().project(x, call)
        if self.share is None:
            call.provide("first_values", v)
            return q, k, v
        return q, k, torch.lerp(v, call.need("first_values").to(v.dtype), self.share.to(v.dtype))

    def cost(self, work):
        cost = super().cost(work)
        if self.share is None:
            return cost
        n = work.all_tokens * self.n_kv_head * self.head_dim
        ops = dict(cost.ops) | {"sub": n, "add": n, "mul": n + cost.ops.get("mul", 0)}
        return dataclasses.replace(
            cost, params=1, weights_read={"native": 1}, ops=ops, activations=cost.activations + 3 * n
        )


@register("attention", "shared_kv")
class SharedKV(Attention):
    """Keys and values of the first layer serve all of them: one cache for the whole model.  arXiv:2405.12981."""

    provides = frozenset({"keys", "values", "key_index"})
    needs = frozenset({"keys", "values", "key_index"})

    def __init__(self, config, ctx):
        super().__init__(config, ctx)
        self.reads = "keys" in ctx.provided
        if self.reads:
            self.k = self.v = _Nothing()
            self.k_norm = None
            self.provides = frozenset()
        else:
            self.needs = frozenset()

    def new_state(self, batch, capacity, device, dtype):
        return None if self.reads else super().new_state(batch, capacity, device, dtype)

    def project(self, x, call):
        if not self.reads:
            return super().project(x, call)
        q = self._normed(self.q(x), self.q_norm)
        if self.position is not None and "rotary" in self.position.serves:
            q = self.position.rotate(q, call, "query")
        return self.quantise["q"](q), None, None

    def forward(self, x, call, state=None):
        x = self.quantise["attention_input"](x)
        q, k, v = self.project(x, call)
        if self.reads:
            k, v, key_index = (call.need(name) for name in ("keys", "values", "key_index"))
        else:
            k, v, key_index = (k, v, call.span.index) if state is None else state.extend(k, v, call.span)
            for name, tensor in (("keys", k), ("values", v), ("key_index", key_index)):
                call.provide(name, tensor)
        y = self.attend(q, k, v, call.span, key_index)
        return self.quantise["attention_output"](self.o(y.transpose(1, 2).flatten(2)))

    def cost(self, work):
        cost = super().cost(work)
        if not self.reads:
            return cost
        parts = dict(cost.parts)
        if self.position is not None:
            scores = work.batch * self.n_head * self._pairs(work)  # rows of scores are as many as the queries turned
            parts["position"] = self.position.cost(work.over(work.all_tokens * self.n_head, scores))
        return dataclasses.replace(cost, state_bits=0, state_written_bits=0, parts=parts)


class _Nothing(Part):
    """Stands where a map is not needed."""

    def cost(self, work):
        return Cost()


@register("mlp", "tiny_moe")
class TinyMoE(FeedForward):
    """sum over the top 2 of E experts of p_e expert_e(x), p the router's softmax; every expert is computed.

    Balance loss E sum_e load_e mean(p_e), arXiv:2101.03961.
    """

    uses = frozenset({"linear", "activation"})

    @options
    class Config:
        experts: PositiveInt = 4
        balance: NonNegativeFloat = 0.01

    cases = [{"experts": 3}, {"balance": 0.1}]
    changes = {"balance": "gradient"}

    def __init__(self, config, ctx):
        super().__init__()
        self.balance, self.hidden = config.balance, ctx.d_model
        self.router = Router(ctx.d_model, config.experts)
        self.up = nn.ModuleList(ctx.linear(ctx.d_model, self.hidden, site="up") for _ in range(config.experts))
        self.activation = ctx.activation(self.hidden, site="mlp")
        self.down = nn.ModuleList(
            ctx.linear(self.hidden, ctx.d_model, site="down", role="residual_out") for _ in range(config.experts)
        )

    def forward(self, x, call):
        p = self.router(x).softmax(dim=-1)  # (B, T, E)
        top = p.topk(2, dim=-1)
        gate = torch.zeros_like(p).scatter(-1, top.indices, top.values)  # (B, T, E)
        load = (gate > 0).to(p.dtype).mean(dim=(0, 1))  # (E,)
        call.record("balance", loss=p.shape[-1] * (load * p.mean(dim=(0, 1))).sum(), weight=self.balance)
        call.record("expert_load", metric=load)
        experts = zip(self.up, self.down, strict=True)
        return sum(gate[..., i : i + 1] * down(self.activation(up(x))) for i, (up, down) in enumerate(experts))

    def cost(self, work):
        n = work.all_tokens * self.hidden
        parts = {"router": self.router.cost(work)}
        for i in range(len(self.up)):
            parts[f"up.{i}"], parts[f"down.{i}"] = self.up[i].cost(work), self.down[i].cost(work)
            parts[f"activation_{i}"] = self.activation.cost(work.over(work.all_tokens, n))
        e = len(self.up)
        rows = work.all_tokens
        ops = {"exp": rows * e, "max": 2 * rows * e, "sub": rows * e, "add": rows * e + e * n, "mul": rows * e + e * n}
        return Cost(ops=ops | {"recip": rows}, activations=2 * rows * e + 3 * e * n, parts=parts)

    def hardware_form(self, work):
        """Torch divides in its softmax, and counts each expert's load, which only training needs."""
        rows, e = work.all_tokens, len(self.up)
        return {"recip": -rows, "cmp": rows * e, "add": 2 * rows * e, "mul": 3 * e}


class Router(Part):
    """Scores of the experts: x W^T."""

    def __init__(self, width, experts):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(experts, width))

    def init_parameters(self, init):
        init.matrix(self.weight, "router", fan_in=self.weight.shape[1])

    def forward(self, x):
        return F.linear(x, self.weight)

    def cost(self, work):
        e, width = self.weight.shape
        n = self.own_params()
        product = Matmul(work.all_tokens, width, e)
        return Cost(params=n, weights_read={"native": n}, matmuls=(product,), activations=work.all_tokens * (width + e))


@register("residual", "two_streams")
class TwoStreams(Residual):
    """A sub-layer reads a learned mix of two streams and writes to each by a learned share.  arXiv:2409.19606."""

    stream = "two streams"

    def __init__(self, config, ctx, place):
        super().__init__(config, ctx, place)
        self.weights = nn.Parameter(torch.empty(2, 2 if place != "model" else 1))
        self.width = ctx.d_model

    def init_parameters(self, init):
        first = torch.tensor([[1.0, 0.9], [0.1, 0.6]])
        init.values(self.weights, first[:, : self.weights.shape[1]], "scalar")

    def open(self, x):
        return torch.stack([x, x], dim=-2)  # (B, T, 2, C)

    def read(self, stream):
        return (stream * self.weights[:, :1]).sum(dim=-2)

    def write(self, stream, update):
        return stream + self.weights[:, 1:] * update[..., None, :]

    def close(self, stream):
        return self.read(stream)

    def cost(self, work):
        n, params = work.elements, self.own_params()
        if self.place == "model":
            return Cost(params=params, weights_read={"native": 2}, ops={"mul": 2 * n, "add": 2 * n}, activations=6 * n)
        ops = {"mul": 4 * n, "add": 4 * n}
        return Cost(params=params, weights_read={"native": params}, ops=ops, activations=8 * n, passes=1)


@register("position", "tiny_fire")
class TinyFire(Position):
    """A learned function of log(1 + c d) / log(1 + c t), d the distance, t the query's position.  arXiv:2310.04418."""

    places = frozenset({"score"})

    def __init__(self, config, ctx, serves, width):
        super().__init__(config, ctx, serves, width)
        self.scale = nn.Parameter(torch.empty(1))
        self.up, self.down = nn.Parameter(torch.empty(8, 1)), nn.Parameter(torch.empty(ctx.n_head, 8))

    def init_parameters(self, init):
        init.constant(self.scale, 1.0, "scalar")
        init.matrix(self.up, "weight", fan_in=1)
        init.matrix(self.down, "weight", fan_in=8)

    def score_bias(self, q, query_position, key_position):
        t = query_position[..., :, None]
        distance = (t - key_position[..., None, :]).clamp_min(0)
        c = self.scale.abs() + 1e-3
        place = torch.log1p(c * distance) / torch.log1p(c * (t + 1))  # (T, S) or (B, T, S)
        hidden = torch.tanh(place[..., None] * self.up[:, 0])
        return torch.einsum("...tsk,hk->...hts", hidden, self.down)

    def cost(self, work):
        heads = self.down.shape[0]
        n = work.elements // (heads * work.batch)  # the same for every sequence
        product = Matmul(n, 8, heads)
        ops = {"sub": n, "mul": 10 * n, "log": 2 * n, "tanh": 8 * n, "add": work.elements, "recip": n}
        params, activations = self.own_params(), 2 * work.elements + 2 * n
        return Cost(
            params=params, weights_read={"native": params}, matmuls=(product,), ops=ops, activations=activations
        )

    def hardware_form(self, work):
        """Torch takes distances as whole numbers, the logarithm of a query's place once for its row, and divides."""
        n = work.elements // (self.down.shape[0] * work.batch)
        return {"add": -n, "log": work.tokens - n, "mul": work.tokens, "recip": -n}


@register("head", "two_tokens")
class TwoTokenHead(Head):
    """Logits of the next token, and from a further map those of the one after it.  arXiv:2404.19737."""

    provides = frozenset({"second_logits"})

    def __init__(self, config, ctx, embedding):
        super().__init__(config, ctx, embedding)
        self.second = ctx.linear(ctx.d_model, ctx.d_model, site="second")

    def forward(self, x, call):
        call.provide("second_logits", self.score(torch.tanh(self.second(x))))
        return self.score(x)

    def cost(self, work):
        once = super().cost(work)
        ops = {"tanh": work.elements}
        parts = {"second": self.second.cost(work), "next": once, "after": without_params(once)}
        return Cost(ops=ops, activations=2 * work.elements, parts=parts)


@register("transform", "tiny_lora")
class TinyLora(Transform):
    """y = base(x) + x A^T B^T at the sites named; everything but A and B is frozen.  arXiv:2106.09685."""

    @options
    class Config:
        rank: PositiveInt = 2
        sites: list[str] = ("q", "v")

    cases = [{"rank": 4}, {"sites": ["down"]}]

    def __init__(self, config):
        self.rank, self.sites = config.rank, config.sites

    def apply(self, model):
        model.requires_grad_(False)
        self.names = []
        for name, owner, attribute, linear in list(linears(model, self.sites)):
            setattr(owner, attribute, LowRank(linear, self.rank))
            self.names.append(name)

    def convert(self, weights):
        moved = {}
        for name, tensor in weights.items():
            owner, _, leaf = name.rpartition(".")
            site = owner.rpartition(".")[2]
            moved[f"{owner}.base.{leaf}" if site in self.sites else name] = tensor
        return moved


class LowRank(Part):
    """A linear map with a low-rank one beside it."""

    def __init__(self, base: LinearMap, rank: int):
        super().__init__()
        self.base, self.rank = base, rank
        self.a = nn.Parameter(torch.empty(rank, base.in_features))
        self.b = nn.Parameter(torch.empty(base.out_features, rank))

    def init_parameters(self, init):
        init.values(self.a, lambda g: torch.randn(self.a.shape, generator=g) / math.sqrt(self.a.shape[1]), "weight")
        init.constant(self.b, 0.0, "weight")

    def forward(self, x):
        return self.base(x) + F.linear(F.linear(x, self.a), self.b)

    def cost(self, work):
        rows, params = LinearMap.rows_of(work), self.own_params()
        n_in, n_out = self.base.in_features, self.base.out_features
        products = (Matmul(rows, n_in, self.rank), Matmul(rows, self.rank, n_out))
        parts = {"base": self.base.cost(work)}
        activations = rows * (n_in + 2 * n_out)
        return Cost(
            params=params, weights_read={"native": params}, matmuls=products, ops={"add": rows * n_out},
            activations=activations, parts=parts,
        )  # fmt: skip


@register("transform", "tiny_int8")
class TinyInt8(Transform):
    """Every linear map of the blocks keeps its weight as int8 with one scale per output."""

    needs_weights = True

    def __init__(self, config):
        pass

    def apply(self, model):
        for module in list(model.blocks.modules()):
            for name, child in list(module.named_children()):
                if isinstance(child, LinearMap):
                    setattr(module, name, Int8Linear(child))

    def convert(self, weights):
        rounded = {}
        for name, tensor in weights.items():
            if not name.startswith("blocks.") or tensor.ndim != 2:
                rounded[name] = tensor
                continue
            scale = tensor.abs().amax(dim=1, keepdim=True) / 127
            rounded[name.replace(".weight", ".levels")] = (tensor / scale).round().to(torch.int8)
            rounded[name.replace(".weight", ".scale")] = scale
        return rounded


class Int8Linear(Part):
    """y = x (scale * levels)^T."""

    def __init__(self, base: LinearMap):
        super().__init__()
        self.register_buffer("levels", torch.empty(base.out_features, base.in_features, dtype=torch.int8))
        self.register_buffer("scale", torch.empty(base.out_features, 1))
        self.bias = base.bias

    def init_parameters(self, init):
        if self.bias is not None:
            init.constant(self.bias, 0.0, "bias")

    def effective_weight(self):
        return self.levels * self.scale

    def forward(self, x):
        return F.linear(x, self.effective_weight().to(x.dtype), self.bias)

    def cost(self, work):
        rows, biases = LinearMap.rows_of(work), self.own_params()
        n_out, n_in = self.levels.shape
        fmt = f"int8/g{n_in}"
        return Cost(
            params=biases, weights_read={fmt: n_in * n_out, "native": biases},
            matmuls=(Matmul(rows, n_in, n_out, weight_format=fmt),), ops={"add": rows * biases},
            activations=rows * (n_in + n_out),
        )  # fmt: skip

    def hardware_form(self, work):
        """The scales are a share of the format's bits."""
        return {"weights_read": len(self.scale)}


@register("mlp", "needy")
class Needy(FeedForward):
    """Reads a tensor that only some attentions provide."""

    needs = frozenset({"first_values"})

    def __init__(self, config, ctx):
        super().__init__()

    def forward(self, x, call):
        return x + 0 * call.need("first_values").mean()

    def cost(self, work):
        return Cost()
