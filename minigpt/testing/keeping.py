"""What a variant keeps: everything it knows is a parameter, a buffer or a state, and its first values are its own."""

from __future__ import annotations

import torch

from minigpt.testing.cases import Case
from minigpt.testing.census import Trace, followed
from minigpt.testing.contract import STARTS_ONLY, contract, require
from minigpt.testing.models import SHORT, SIZES, Mode, batch, create, decode, loss_of, moved, moved_model
from minigpt.testing.specs import make_spec
from minigpt.testing.walk import tensors_in


@contract()
def check_same_seed(case: Case) -> None:
    """The same seed starts the same parameters."""
    first, second = (create(case.spec(**SIZES)) for _ in range(2))
    for (name, a), b in zip(first.named_parameters(), second.parameters(), strict=True):
        require(torch.equal(a, b), f"{name} starts otherwise the second time")


@contract()
def check_state_dict(case: Case) -> None:
    """A fresh model with this one's state dict says the same, whatever this one has been through."""
    used = moved(create(case.spec(**SIZES)))
    optimizer = torch.optim.SGD([p for p in used.parameters() if p.requires_grad], lr=0.01)
    for seed in range(3):
        loss_of(used, batch(seed=seed)).backward()
        optimizer.step()
    used.eval()
    with torch.no_grad():
        for seed in range(2):
            decode(used, batch(seed=seed), (9, 5, 1, 1))
            used(batch(seed=seed))
    fresh = create(case.spec(**SIZES))
    fresh.load_state_dict({name: tensor.clone() for name, tensor in used.state_dict().items()})
    for mode in (Mode(3, SHORT, "fp32"), Mode(3, SHORT, "fp32", train=True, gradients=True)):
        said = []
        for model in (used, fresh):
            with mode.applied(model):
                said.append(model(batch()).logits.detach())
        require(torch.equal(*said), f"what it learned is not all in its state dict ({mode})")


@contract(not_for=STARTS_ONLY)
def check_keeps_nothing_aside(case: Case) -> None:
    """A module keeps tensors as parameters and buffers only: anything else is lost by a checkpoint or a move."""
    model = moved(create(case.spec(**SIZES)))
    loss_of(model, batch()).backward()
    with torch.no_grad():
        decode(model.eval(), batch(), (9, 5, 1, 1))
    for name, module in model.named_modules():
        own = [*module._parameters.values(), *module._buffers.values(), *module._modules.values()]
        gradients = [p.grad for p in model.parameters()]
        rest = {key: value for key, value in vars(module).items() if key not in _KEPT}
        found = tensors_in(rest, ignore=[each for each in (*own, *gradients, *model.modules()) if each is not None])
        kinds = ", ".join(str(tuple(t.shape)) for t in found)
        require(not found, f"{name or 'the model'} keeps tensors in plain attributes: {kinds}; register buffers")


_KEPT = {"_parameters", "_buffers", "_modules"}


@contract(not_for=STARTS_ONLY)
def check_randomness(case: Case) -> None:
    """Nothing is drawn at random in evaluation, and what is drawn in training is new each time and follows the seed."""
    model = moved_model(case, torch.float32)
    tokens, traces = batch(2), []
    for seed, train in ((0, False), (1, True), (2, True)):
        model.train(train)
        torch.manual_seed(seed)
        with torch.no_grad(), followed(model, tokens) as trace:
            model(tokens)
        traces.append(trace)
    model.eval()
    still, first, second = traces
    require(not still.drawn, f"numbers are drawn at random in evaluation: {_listed(still)}")
    for (where, what, a), (_, _, b) in zip(first.drawn, second.drawn, strict=True):
        same = a.numel() > 8 and torch.equal(a, b)
        require(
            not same, f"{where} draws the same random numbers each time ({what}): make them a parameter or a buffer"
        )
    for trace in traces:
        sentence = "; ".join(f"{where} takes a {shape} from nowhere" for where, shape in trace.strangers)
        require(not trace.strangers, f"{sentence}: neither input, parameter, buffer, state nor computed from them")


def _listed(trace: Trace) -> str:
    return ", ".join(sorted({f"{what} in {where}" for where, what, _ in trace.drawn}))


@contract(not_for=("init",))
def check_others_first_values(case: Case) -> None:
    """Choosing this variant leaves the first values of all other parameters alone, so that runs compare."""
    base, swapped = create(make_spec(**SIZES)), create(case.spec(**SIZES))
    same = dict(base.named_parameters())
    shared = [
        (name, p)
        for name, p in swapped.named_parameters()
        if name in same and same[name].shape == p.shape and case.axis not in name
    ]
    require(bool(shared), "no parameter is left that both models have")
    for name, parameter in shared:
        require(torch.equal(parameter, same[name]), f"{name} starts otherwise because of {case.axis}={case.name}")
