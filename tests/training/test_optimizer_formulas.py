"""Every optimizer of the package against its paper, written down once more: a matrix and a vector in fp64, some steps.

What is written here takes one array after the other, in the paper's order. The vector does not decay.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from minigpt import registry
from tests.training.steps import NO_SCALER

STEPS = 6
Update = Callable[[Tensor, list[Tensor], float, dict], Tensor]


def given(seed: int) -> tuple[Tensor, list[Tensor]]:
    """First values of a matrix, and gradients, each with its own course."""
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    gradients = [torch.randn(4, 3, generator=generator, dtype=torch.float64) * 0.1 * (n + 1) for n in range(STEPS)]
    return start, gradients


def moved(name: str, options: dict, starts: list[Tensor], gradients: list[list[Tensor]], **also) -> list[Tensor]:
    """Where ours ends: the matrix as a weight of a block, the vector as a bias."""
    names = ["weight", "bias"]
    parameters = {n: torch.nn.Parameter(start.clone()) for n, start in zip(names, starts, strict=True)}
    roles = {n: n for n in names}
    optimizer = registry.build(registry.spec("optimizer", {"name": name, **options}), parameters, roles)
    for step in range(STEPS):
        for n, of in zip(names, gradients, strict=True):
            parameters[n].grad = of[step].clone()
        if optimizer.curvature:
            optimizer.curve([h.clone() for h in also["curvature"](step)])
        optimizer.step(NO_SCALER)
        optimizer.zero_grad()
    optimizer.eval()
    return [parameter.detach() for parameter in parameters.values()]


def lion(p: Tensor, gradients: list[Tensor], decay: float, o: dict) -> Tensor:
    m = torch.zeros_like(p)
    for g in gradients:
        c = torch.sign(o["beta1"] * m + (1 - o["beta1"]) * g)
        if o.get("cautious"):
            agree = (c * g > 0).double()
            c = c * agree * agree.numel() / (agree.sum() + 1)
        p = p - o["lr"] * (c + decay * p)
        m = o["beta2"] * m + (1 - o["beta2"]) * g
    return p


def adafactor(p: Tensor, gradients: list[Tensor], decay: float, o: dict) -> Tensor:
    rows = columns = v = 0.0
    for t, g in enumerate(gradients, 1):
        beta2 = 1 - t ** o["beta2_decay"]
        a = max(1e-3, float(p.square().mean().sqrt())) * min(o["lr"], t**-0.5)
        p = p - o["lr"] * decay * p
        if p.ndim == 2:
            rows = beta2 * rows + (1 - beta2) * g.square().mean(1)
            columns = beta2 * columns + (1 - beta2) * g.square().mean(0)
            v = torch.outer(rows, columns) / rows.mean()
        else:
            v = beta2 * v + (1 - beta2) * g.square()
        u = g / v.sqrt()
        p = p - a * u / max(1.0, float(u.square().mean().sqrt()) / o["clip"])
    return p


def ademamix(p: Tensor, gradients: list[Tensor], decay: float, o: dict) -> Tensor:
    m1, m2, v = (torch.zeros_like(p) for _ in range(3))
    o = {"beta3": 0.999, "alpha": 5.0} | o
    for t, g in enumerate(gradients, 1):
        alpha, beta3 = o["alpha"], o["beta3"]
        if (mix := o.get("mix_steps")) and t < mix:  # the half-life of m2 rises in a line
            alpha = alpha * t / mix
            low, high = math.log(o["beta1"]), math.log(beta3)
            beta3 = math.exp(low * high / ((1 - t / mix) * high + t / mix * low))
        m1 = o["beta1"] * m1 + (1 - o["beta1"]) * g
        m2 = beta3 * m2 + (1 - beta3) * g
        v = o["beta2"] * v + (1 - o["beta2"]) * g.square()
        m_hat, v_hat = m1 / (1 - o["beta1"] ** t), v / (1 - o["beta2"] ** t)
        p = p - o["lr"] * ((m_hat + alpha * m2) / (v_hat.sqrt() + o["eps"]) + decay * p)
    return p


def adopt(p: Tensor, gradients: list[Tensor], decay: float, o: dict) -> Tensor:
    m, v = torch.zeros_like(p), gradients[0].square()
    p = p - o["lr"] * decay * p
    for t, g in enumerate(gradients[1:], 2):
        scaled = (g / v.sqrt().clamp(min=o["eps"])).clamp(-(t**0.25), t**0.25)
        m = o["beta1"] * m + (1 - o["beta1"]) * scaled
        p = p - o["lr"] * (m + decay * p)
        v = o["beta2"] * v + (1 - o["beta2"]) * g.square()
    return p


def adan(p: Tensor, gradients: list[Tensor], decay: float, o: dict) -> Tensor:
    m, d, n = (torch.zeros_like(p) for _ in range(3))
    before = gradients[0]
    for t, g in enumerate(gradients, 1):
        m = o["beta1"] * m + (1 - o["beta1"]) * g
        d = o["beta2"] * d + (1 - o["beta2"]) * (g - before)
        n = o["beta3"] * n + (1 - o["beta3"]) * (g + o["beta2"] * (g - before)).square()
        m_hat, d_hat, n_hat = (x / (1 - b**t) for x, b in ((m, o["beta1"]), (d, o["beta2"]), (n, o["beta3"])))
        p = p - o["lr"] * (m_hat + o["beta2"] * d_hat) / (n_hat.sqrt() + o["eps"])
        p = p / (1 + o["lr"] * decay)
        before = g
    return p


def mars(p: Tensor, gradients: list[Tensor], decay: float, o: dict) -> Tensor:
    m, v, before = (torch.zeros_like(p) for _ in range(3))
    for t, g in enumerate(gradients, 1):
        c = g + o["gamma"] * o["beta1"] / (1 - o["beta1"]) * (g - before)
        c = c / max(1.0, float(c.norm()))
        m = o["beta1"] * m + (1 - o["beta1"]) * c
        v = o["beta2"] * v + (1 - o["beta2"]) * c.square()
        m_hat, v_hat = m / (1 - o["beta1"] ** t), v / (1 - o["beta2"] ** t)
        p = p - o["lr"] * decay * p - o["lr"] * m_hat / (v_hat.sqrt() + o["eps"] / (1 - o["beta2"] ** t) ** 0.5)
        before = g
    return p


def lamb(p: Tensor, gradients: list[Tensor], decay: float, o: dict) -> Tensor:
    m, v = torch.zeros_like(p), torch.zeros_like(p)
    for g in gradients:
        m = o["beta1"] * m + (1 - o["beta1"]) * g
        v = o["beta2"] * v + (1 - o["beta2"]) * g.square()
        u = m / (v.sqrt() + o["eps"]) + decay * p
        p = p - o["lr"] * min(float(p.norm()), 10.0) / float(u.norm()) * u
    return p


def sgd(p: Tensor, gradients: list[Tensor], decay: float, o: dict) -> Tensor:
    m = torch.zeros_like(p)
    for g in gradients:
        g = g + decay * p
        m = o["momentum"] * m + g
        p = p - o["lr"] * (g + o["momentum"] * m if o.get("nesterov") else m)
    return p


def schedule_free(p: Tensor, gradients: list[Tensor], decay: float, o: dict) -> Tensor:
    """At one rate, where x is the plain mean of all z."""
    z = x = y = p
    v, every = torch.zeros_like(p), []
    for t, g in enumerate(gradients, 1):
        v = o["beta2"] * v + (1 - o["beta2"]) * g.square()
        z = z - o["lr"] * (g / ((v / (1 - o["beta2"] ** t)).sqrt() + o["eps"]) + decay * y)
        every.append(z)
        x = torch.stack(every).mean(0)
        y = (1 - o["beta1"]) * z + o["beta1"] * x
    return x


def soap(p: Tensor, gradients: list[Tensor], decay: float, o: dict) -> Tensor:
    """A matrix, whose bases are never turned within these steps; a vector is AdamW's."""
    b1, b2 = o["beta1"], o["beta2"]
    if p.ndim == 1:
        m, v = torch.zeros_like(p), torch.zeros_like(p)
        for t, g in enumerate(gradients, 1):
            m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g.square()
            p = p - o["adamw_lr"] * (m / (1 - b1**t)) / ((v / (1 - b2**t)).sqrt() + o["eps"])
        return p
    first = gradients[0]
    left, right = torch.linalg.eigh(first @ first.T)[1], torch.linalg.eigh(first.T @ first)[1]
    m, v = torch.zeros_like(p), torch.zeros_like(p)
    for t, g in enumerate(gradients[1:], 1):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * (left.T @ g @ right).square()
        scale = math.sqrt(1 - b2**t) / (1 - b1**t)
        p = p - o["lr"] * scale * left @ ((left.T @ m @ right) / (v.sqrt() + o["eps"])) @ right.T
        p = p * (1 - o["lr"] * decay)
    return p


CASES: list[tuple[str, dict, Update]] = [
    ("lion", {"lr": 0.1, "beta1": 0.8, "beta2": 0.9, "weight_decay": 0.5}, lion),
    ("lion", {"lr": 0.1, "beta1": 0.8, "beta2": 0.9, "weight_decay": 0.5, "cautious": True}, lion),
    ("adafactor", {"lr": 0.1, "beta2_decay": -0.7, "clip": 1.0, "weight_decay": 0.5}, adafactor),
    (
        "ademamix",
        {"lr": 0.1, "beta1": 0.8, "beta2": 0.9, "beta3": 0.99, "alpha": 3.0, "eps": 1e-3, "weight_decay": 0.5},
        ademamix,
    ),
    (
        "ademamix",
        {
            "lr": 0.1,
            "beta1": 0.8,
            "beta2": 0.9,
            "beta3": 0.99,
            "alpha": 3.0,
            "mix_steps": 4,
            "eps": 1e-3,
            "weight_decay": 0,
        },
        ademamix,
    ),
    ("adopt", {"lr": 0.1, "beta1": 0.8, "beta2": 0.9, "eps": 1e-3, "weight_decay": 0.5}, adopt),
    ("adan", {"lr": 0.1, "beta1": 0.8, "beta2": 0.9, "beta3": 0.95, "eps": 1e-3, "weight_decay": 0.5}, adan),
    ("mars", {"lr": 0.1, "beta1": 0.8, "beta2": 0.9, "gamma": 0.3, "eps": 1e-3, "weight_decay": 0.5}, mars),
    ("lamb", {"lr": 0.1, "beta1": 0.8, "beta2": 0.9, "eps": 1e-6, "weight_decay": 0.5}, lamb),
    ("sgd", {"lr": 0.1, "momentum": 0.8, "weight_decay": 0.5}, sgd),
    ("sgd", {"lr": 0.1, "momentum": 0.8, "nesterov": True, "weight_decay": 0.5}, sgd),
    ("schedule_free", {"lr": 0.1, "beta1": 0.8, "beta2": 0.9, "eps": 1e-3, "weight_decay": 0.5}, schedule_free),
    (
        "soap",
        {"lr": 0.1, "beta1": 0.8, "beta2": 0.9, "frequency": 99, "eps": 1e-3, "weight_decay": 0.5, "adamw_lr": 0.2},
        soap,
    ),
]


@pytest.mark.parametrize(("name", "options", "update"), CASES, ids=lambda x: x if isinstance(x, str) else "")
def test_an_optimizer_moves_as_its_paper_says(name, options, update):
    matrix, of_matrix = given(seed=0)
    vector, of_vector = matrix[0] * 2, [g[0] / 2 for g in of_matrix]
    ours = moved(name, options, [matrix, vector], [of_matrix, of_vector])
    theirs = [update(matrix, of_matrix, options["weight_decay"], options), update(vector, of_vector, 0.0, options)]
    for mine, written in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, written, rtol=1e-6, atol=1e-9)


def test_sophia_moves_as_its_paper_says():
    o = {"lr": 0.1, "beta1": 0.8, "beta2": 0.9, "gamma": 0.4, "interval": 2, "eps": 1e-3, "weight_decay": 0.5}
    matrix, of_matrix = given(seed=0)
    vector, of_vector = matrix[0] * 2, [g[0] / 2 for g in of_matrix]
    curvature = lambda step: [of_matrix[step].square() * 4, of_vector[step].square() * 4]  # noqa: E731
    ours = moved("sophia", o, [matrix, vector], [of_matrix, of_vector], curvature=curvature)
    for i, (p, gradients, decay) in enumerate(((matrix, of_matrix, 0.5), (vector, of_vector, 0.0))):
        m, h = torch.zeros_like(p), torch.zeros_like(p)
        for step, g in enumerate(gradients):
            m = o["beta1"] * m + (1 - o["beta1"]) * g
            if step % 2 == 0:
                h = o["beta2"] * h + (1 - o["beta2"]) * curvature(step)[i]
            p = p * (1 - o["lr"] * decay)
            p = p - o["lr"] * (m / (o["gamma"] * h).clamp(min=o["eps"])).clamp(-1, 1)
        torch.testing.assert_close(ours[i], p, rtol=1e-6, atol=1e-9)


def test_prodigy_finds_a_rate_and_moves_as_adamw_at_it():
    """From a d0 far too small it comes to the size of the way: on a quadratic whose minimum lies 3 away everywhere."""
    weight = torch.nn.Parameter(torch.zeros(4, 5))
    spec = registry.spec("optimizer", {"name": "prodigy", "weight_decay": 0.0})
    optimizer = registry.build(spec, {"weight": weight}, {"weight": "weight"})
    for _ in range(400):
        ((weight - 3).square().sum() / 2).backward()
        optimizer.step(NO_SCALER)
        optimizer.zero_grad()
    found = optimizer.groups[0]["d"]
    assert 1e-2 < found < 3 * 20**0.5  # never above the distance to the minimum
    torch.testing.assert_close(weight.detach(), torch.full((4, 5), 3.0), atol=0.3, rtol=0)


def test_every_optimizer_is_held_to_a_writing():
    elsewhere = {"adamw", "muon"}  # in test_optimizers
    assert {*(name for name, *_ in CASES), "sophia", "prodigy"} | elsewhere == set(registry.names("optimizer"))
