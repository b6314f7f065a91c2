"""Every loss of the task axis: against an independent writing in fp64, gradients included, and in real runs."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from minigpt import registry
from minigpt.data.batch import Tokens
from minigpt.data.dataset import open_dataset
from minigpt.errors import UserError
from minigpt.model import Output
from minigpt.model.checkpoint import load_checkpoint
from minigpt.testing.cases import cases_of
from minigpt.training.fit import fit
from minigpt.training.matching import same_trial
from minigpt.training.metrics import read_metrics
from minigpt.training.tasks.mixture import weight_at
from tests.training.test_fit import same_metrics, weights
from tests.training.test_resume import die_at, stored

V = 11
TASKS = registry.names("task")


def output_of(logits: torch.Tensor) -> Output:
    return Output(logits, {}, {}, {}, {})


def numbers(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (2, 5, V) in fp64 and targets, among them one that leads by far and one at the very end."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(2, 5, V, generator=generator, dtype=torch.float64)
    targets = torch.randint(0, V, (2, 5), generator=generator)
    targets[0, 0], targets[0, 1] = logits[0, 0].argmax(), logits[0, 1].argmin()
    logits[0, 0, targets[0, 0]] += 20
    return logits, targets


def built(name: str, dtype: torch.dtype = torch.float64, **options):
    """A task, whose teacher, if it has one, says what numbers(seed=1) does."""
    task = registry.build(registry.spec("task", {"name": name, **options}))
    teacher = numbers(seed=1)[0].to(dtype)
    task.models = {key: lambda tokens: output_of(teacher.clone()) for key in task.checkpoints}
    return task


def rows(logits: torch.Tensor, targets: torch.Tensor):
    """Every token's probabilities, target and logits."""
    for z, y in zip(logits.reshape(-1, V), targets.reshape(-1), strict=True):
        yield torch.exp(z) / torch.exp(z).sum(), y, z


def mean(values) -> torch.Tensor:
    values = list(values)
    return sum(values) / len(values)


def kl(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    return (p * (p / q).log()).sum()


def distilled(divergence, temperature: float = 1.0, share: float = 0.5):
    def loss(logits, targets):
        theirs, total = numbers(seed=1)[0], []
        for (_, y, z), (_, _, w) in zip(rows(logits, targets), rows(theirs, targets), strict=True):
            t, s = (torch.exp(x / temperature) / torch.exp(x / temperature).sum() for x in (w, z))
            surprise = -torch.log(torch.exp(z) / torch.exp(z).sum())[y]
            total.append(share * temperature**2 * divergence(t, s, w, z) + (1 - share) * surprise)
        return mean(total)

    return loss


DISTANCES = {
    "forward_kl": lambda t, s, w, z: kl(t, s),
    "reverse_kl": lambda t, s, w, z: kl(s, t),
    "symmetric_kl": lambda t, s, w, z: kl(t, s) / 2 + kl(s, t) / 2,
    "jensen_shannon": lambda t, s, w, z: kl(t, (t + s) / 2) / 2 + kl(s, (t + s) / 2) / 2,
    "logit_mse": lambda t, s, w, z: ((w - z) ** 2).mean(),
}


def smoothed(epsilon):
    def loss(logits, targets):
        wanted = ((1 - epsilon) * F.one_hot(y, V).double() + epsilon / V for _, y, _ in rows(logits, targets))
        return mean(-(q * torch.log(p)).sum() for q, (p, _, _) in zip(wanted, rows(logits, targets), strict=True))

    return loss


def entropic(weight):
    return lambda logits, targets: mean(
        -torch.log(p[y]) - weight * (p * torch.log(p)).sum() for p, y, _ in rows(logits, targets)
    )


def hinged(margin, weight):
    def one(p, y, z):
        lead = z[y] - torch.stack([z[j] for j in range(V) if j != y]).max()
        return -torch.log(p[y]) + weight * (margin - lead if lead < margin else 0 * lead)

    return lambda logits, targets: mean(one(*row) for row in rows(logits, targets))


def ranked(scale):
    def one(p, y, z):
        rank = sorted(z.tolist(), reverse=True).index(z[y].item())
        return -(1 + scale * rank / (V - 1)) * torch.log(p[y])

    return lambda logits, targets: mean(one(*row) for row in rows(logits, targets))


def plain(z_loss=0.0):
    return lambda logits, targets: mean(
        -torch.log(p[y]) + z_loss * torch.log(torch.exp(z).sum()) ** 2 for p, y, z in rows(logits, targets)
    )


def focal(gamma):
    return lambda logits, targets: mean(-((1 - p[y]) ** gamma) * torch.log(p[y]) for p, y, _ in rows(logits, targets))


TWO = {"plain": {"name": "next_token"}, "hard": {"name": "focal", "gamma": 3.0}}
WRITTEN = [
    ("next_token", {}, plain()),
    ("next_token", {"z_loss": 0.1}, plain(0.1)),
    ("label_smoothing", {}, smoothed(0.1)),
    ("label_smoothing", {"smoothing": 0.5}, smoothed(0.5)),
    ("focal", {}, focal(2.0)),
    ("focal", {"gamma": 0.5}, focal(0.5)),
    ("focal", {"gamma": 0.0}, plain()),
    ("entropy_penalty", {}, entropic(0.01)),
    ("entropy_penalty", {"weight": -0.5}, entropic(-0.5)),
    ("top1_margin", {}, hinged(1.0, 0.1)),
    ("top1_margin", {"margin": 3.0, "weight": 2.0}, hinged(3.0, 2.0)),
    ("rank_distance", {}, ranked(1.0)),
    ("rank_distance", {"scale": 4.0}, ranked(4.0)),
    ("mixture", {"terms": TWO}, lambda *x: plain()(*x) + focal(3.0)(*x)),
    ("mixture", {"terms": TWO, "weights": {"hard": [[0, 0], [10, 1]]}}, lambda *x: plain()(*x) + 0.7 * focal(3.0)(*x)),
    *(
        ("distillation", {"teacher": "t", "divergence": name}, distilled(distance))
        for name, distance in DISTANCES.items()
    ),
    *(
        (
            "distillation",
            {"teacher": "t", "divergence": name, "temperature": 2.5, "share": 1.0},
            distilled(distance, 2.5, 1),
        )
        for name, distance in DISTANCES.items()
        if name != "logit_mse"
    ),
]


def test_every_task_is_written_down_here():
    assert {name for name, *_ in WRITTEN} == set(TASKS)


@pytest.mark.parametrize(("name", "options", "written"), WRITTEN, ids=lambda x: str(x) if not callable(x) else "")
def test_the_loss_and_its_gradient_are_the_formula(name, options, written):
    logits, targets = numbers()
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    loss = built(name, **options)(output_of(ours), Tokens(targets, targets), 7).loss
    reference = written(theirs, targets)
    loss.backward()
    reference.backward()
    torch.testing.assert_close(loss, reference, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-6, atol=1e-7)  # 1 - p loses digits written plainly


def test_label_smoothing_is_torchs():
    logits, targets = numbers()
    loss = built("label_smoothing", smoothing=0.2)(output_of(logits), Tokens(targets, targets), 0).loss
    torch.testing.assert_close(loss, F.cross_entropy(logits.flatten(0, 1), targets.flatten(), label_smoothing=0.2))


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_forward_kl_is_torchs(temperature):
    logits, targets = numbers()
    task = built("distillation", teacher="t", share=1.0, temperature=temperature)
    ours, theirs = (x.flatten(0, 1) / temperature for x in (logits, numbers(seed=1)[0]))
    expected = F.kl_div(ours.log_softmax(-1), theirs.softmax(-1), reduction="batchmean") * temperature**2
    torch.testing.assert_close(task(output_of(logits), Tokens(targets, targets), 0).loss, expected)


@pytest.mark.parametrize("divergence", DISTANCES)
def test_a_model_that_says_what_its_teacher_says_has_nothing_to_learn(divergence):
    theirs = numbers(seed=1)[0].requires_grad_()
    task = built("distillation", teacher="t", share=1.0, divergence=divergence)
    loss = task(output_of(theirs), Tokens(numbers()[1], numbers()[1]), 0).loss
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0, abs=1e-12)
    torch.testing.assert_close(theirs.grad, torch.zeros_like(theirs), atol=1e-12, rtol=0)


def some_options(name: str) -> dict:
    return cases_of("task", name)[1].changed if name in ("mixture", "distillation") else {}


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("peak", [0.0, 60.0, 1e4])
def test_gradients_are_finite_however_sure_the_model_is(name, peak):
    """In bf16 logits too, where a probability is soon exactly 1."""
    logits = numbers()[0].to(torch.bfloat16)
    targets = logits.argmax(-1)
    logits.scatter_add_(-1, targets[..., None], torch.full_like(targets[..., None], peak, dtype=torch.bfloat16))
    targets[:, 1] = logits[:, 1].argmin(-1)  # sure, and wrong
    for options in [case.changed for case in cases_of("task", name) if case.changed or not some_options(name)]:
        given = logits.clone().requires_grad_()
        learned = built(name, torch.bfloat16, **options)(output_of(given), Tokens(targets, targets), 3)
        learned.loss.backward()
        assert learned.loss.dtype == torch.float32
        assert learned.loss.shape == ()
        assert learned.loss.isfinite()
        assert given.grad is not None
        assert given.grad.isfinite().all()
        assert all(value.isfinite().all() for value in learned.figures.values())


def test_a_weight_is_level_before_the_first_point_and_after_the_last_and_a_line_between():
    points = [[10, 0.0], [20, 1.0], [40, 0.5]]
    assert [weight_at(points, step) for step in (0, 10, 15, 20, 30, 40, 99)] == [0, 0, 0.5, 1, 0.75, 0.5, 0.5]
    assert weight_at([[5, 2.0]], 0) == weight_at([[5, 2.0]], 9) == weight_at(2.0, 3) == 2.0


def test_a_term_without_weight_is_not_computed_and_one_that_has_some_is_logged_by_its_label():
    task = built("mixture", terms=TWO, weights={"hard": [[0, 0], [10, 1]]})
    logits, targets = numbers()
    assert set(task(output_of(logits), Tokens(targets, targets), 0).figures) == {"plain"}
    assert set(task(output_of(logits), Tokens(targets, targets), 1).figures) == {"plain", "hard", "hard.cross_entropy"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "task.terms: expected at least two, such as .*, got 0"),
        ({"terms": {"a": {"name": "focal"}}}, "task.terms: expected at least two, such as .*, got 1"),
        ({"terms": {"a": {"name": "focl"}}}, "task.terms.a.name: there is no task named 'focl'.* Did you mean 'focal'"),
        ({"terms": TWO, "weights": {"hart": 1.0}}, "weights.hart: there is no such term. Did you mean 'hard'"),
        ({"terms": TWO, "weights": {"hard": 0.0}}, "weights.hard: is 0 all the way, so the term would do nothing"),
        ({"terms": TWO, "weights": {"hard": -1.0}}, "weights.hard: expected a number or points"),
        ({"terms": TWO, "weights": {"hard": []}}, "weights.hard: expected a number or points"),
        ({"terms": TWO, "weights": {"hard": [[0, 1, 2]]}}, "weights.hard: expected a number or points"),
        ({"terms": TWO, "weights": {"hard": [[5, 1], [5, 0]]}}, "weights.hard: expected .* steps rising"),
        ({"terms": TWO, "weights": {"hard": [[0, math.inf]]}}, "weights.hard: expected a number or points"),
        ({"terms": TWO, "weights": {"hard": "much"}}, "weights.hard: expected a number, got 'much'.*; or .* a list"),
    ],
)
def test_a_mixture_that_is_none_is_refused(options, message):
    with pytest.raises(UserError, match=message):
        built("mixture", **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "task.teacher: missing"),
        ({"teacher": "t", "divergence": "logit_mse", "temperature": 2.0}, "temperature: 2 does nothing with diverg"),
        ({"teacher": "t", "share": 0.0}, "task.share: 0.0 is out of range, expected > 0"),
        ({"teacher": "t", "divergence": "kl"}, "expected one of forward_kl, reverse_kl, .*got 'kl'"),
    ],
)
def test_a_distillation_that_is_none_is_refused(options, message):
    with pytest.raises(UserError, match=message):
        built("distillation", **options)


def test_words_of_the_page_mean_tasks():
    assert registry.spec("task", "cross_entropy") == registry.spec("task", "next_token")
    mixed = built("mixture", terms={"plain": {"name": "cross_entropy"}, "small": "z_loss"})  # a preset
    assert mixed.terms["small"].z_loss == 1e-4


@pytest.fixture(scope="module")
def teacher(data_folder, tmp_path_factory):
    from minigpt import config
    from minigpt.config import TrainConfig

    content = {axis: {"name": d} for axis in registry.axes() if (d := registry.axis_named(axis).default)} | {
        "data": {"name": "words", "folder": str(data_folder), "val_tokens": 1000},
        "model": {"d_model": 48, "n_head": 4, "n_layer": 1, "block_size": 16},
        "training": {"batch_size": 4, "max_steps": 60, "eval_interval": 60, "threads": 1},
        "out": str(tmp_path_factory.mktemp("out")),
        "device": "cpu",
    }
    return str(fit(config.check(content, TrainConfig)).folder)


def with_teacher(name: str, teacher: str) -> dict:
    return {"name": name} | some_options(name) | ({"teacher": teacher} if name == "distillation" else {})


@pytest.mark.parametrize("name", TASKS)
def test_validation_is_plain_cross_entropy_under_every_task_and_only_training_is_another(configure, teacher, name):
    run = configure(task=with_teacher(name, teacher))
    record = fit(run)
    model = load_checkpoint(record.folder, torch.device("cpu")).model.eval()
    dataset = open_dataset("words", run.data.folder, block_size=16, val_tokens=1000)
    surprises: list[float] = []
    with torch.no_grad():
        for batch in dataset.val_batches(4, 16):
            log_p = torch.log_softmax(model(batch.inputs).logits.double(), -1)
            surprises += (-log_p.gather(-1, batch.targets[..., None])).flatten().tolist()
    assert record.val_loss == pytest.approx(sum(surprises) / len(surprises), rel=1e-5)
    if name != "next_token":
        assert weights(record.folder) != weights(fit(configure(name="plain")).folder)


@pytest.mark.parametrize("divergence", ["forward_kl", "logit_mse"])
def test_a_student_comes_nearer_to_its_teacher(configure, teacher, divergence):
    task = {"name": "distillation", "teacher": teacher, "divergence": divergence, "share": 1.0}
    record = fit(configure(task=task, training={"max_steps": 40}))
    distances = [line["distance"] for line in read_metrics(record.folder) if "distance" in line]
    assert distances[-1] < 0.8 * distances[0]


def test_a_scheduled_mixture_with_a_teacher_goes_on_exactly(configure, teacher):
    terms = {"plain": {"name": "next_token"}, "taught": {"name": "distillation", "teacher": teacher, "share": 1.0}}
    task = {"name": "mixture", "terms": terms, "weights": {"taught": [[5, 0], [15, 1]]}}
    whole = fit(configure(name="whole", task=task, training={"log_interval": 1}))
    lines = [line for line in read_metrics(whole.folder) if "train_loss" in line]
    assert ["taught" in line for line in lines] == [step > 5 for step in range(20)]
    last = lines[-1]
    assert last["train_loss"] == pytest.approx(last["plain"] + last["taught"], rel=1e-5)
    folder = die_at(configure(task=task, training={"log_interval": 1, "checkpoint_interval": 7}), step=16)
    fit(stored(folder))
    assert weights(folder) == weights(whole.folder)
    assert same_metrics(folder) == same_metrics(whole.folder)


def test_a_teacher_that_has_been_trained_on_makes_old_results_stale_and_no_run_goes_on_with_it(configure):
    own = fit(configure(name="teacher", training={"max_steps": 5})).folder
    run = configure(task={"name": "distillation", "teacher": str(own)}, training={"max_steps": 5})
    record = fit(run)
    assert len(record.companions) == 1
    assert same_trial(record, run) == ""
    fit(stored(own, max_steps=10))
    assert "which its task asked, are others now" in same_trial(record, run)
    with pytest.raises(UserError, match="which its task asks, is another model now"):
        fit(stored(record.folder, max_steps=10))


def test_a_mixture_is_another_trial_when_the_code_of_a_term_is_another(configure):
    run = configure(task={"name": "mixture", "terms": TWO})
    assert {"task=mixture", "task=focal", "task=next_token"} <= set(fit(run).code)


def test_what_is_no_plain_text_cannot_be_mixed(configure, monkeypatch):
    own = SimpleNamespace(**{"draw": lambda self: None})
    focal_task = registry.get("task", "focal")
    monkeypatch.setattr(focal_task, "draw", own.draw, raising=False)
    with pytest.raises(UserError, match=r"task\.terms\.hard: reads other batches than plain text"):
        built("mixture", terms=TWO)
