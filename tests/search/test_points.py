"""Points: how they are made, named and checked."""

from __future__ import annotations

import pytest

from minigpt.errors import UserError
from minigpt.search.keys import value_at, word_at
from minigpt.search.points import Point, at_point, checked, study_name, trial_name, unique, valid, vary


def test_varying_a_component_starts_from_its_own_defaults(configure):
    base = configure(softmax="consmax")
    varied = vary(base, {"softmax": "relumax", "model.n_layer": 3})
    assert (varied.parts["softmax"].name, varied.model.n_layer) == ("relumax", 3)
    assert vary(varied, {"softmax": "consmax", "model.n_layer": 1}) == base


@pytest.mark.parametrize("key", ["model.n_lyer", "modle.n_layer", "softmaks", "seed.x"])
def test_varying_an_unknown_key_names_it(configure, key):
    with pytest.raises(UserError, match=key):
        vary(configure(), {key: 1})


def test_varying_to_an_unknown_name_says_what_there_is(configure):
    with pytest.raises(UserError, match=r"(?s)'consmx'.*consmax"):
        vary(configure(), {"softmax": "consmx"})


def test_the_value_of_a_component_is_its_name(configure):
    assert value_at(configure(), "softmax") == "softmax"
    assert value_at(configure(), "optimizer.lr") > 0


def test_a_preset_brings_its_activation_even_back_and_what_is_said_of_the_activation_wins(hydra, configure):
    base = configure(mlp="mlp", activation="gelu")
    assert vary(base, {"mlp": "swiglu"}).parts["activation"].name == "silu"
    assert vary(base, {"activation": "relu", "mlp": "swiglu"}).parts["activation"].name == "relu"
    assert vary(base, {"mlp.expansion": 2, "mlp": "gelu_mlp"}).parts["mlp"].options.expansion == 2
    assert vary(base, {"mlp": "gelu_mlp"}).parts["mlp"].options.expansion == 4
    assert word_at(base, "mlp", ["swiglu", "gelu_mlp"]) == "gelu_mlp"
    assert word_at(configure(mlp="mlp"), "mlp", ["swiglu", "gelu_mlp"]) == "mlp"


def test_equal_points_are_one_wherever_they_would_run(configure):
    points = [Point({"seed": 0}, configure(out="here")), Point({}, configure(out="there", workers=2))]
    assert unique(points) == points[:1]


def test_a_point_that_cannot_be_built_is_named(configure):
    good, bad = Point({"seed": 0}, configure()), configure(attention="linear", softmax="consmax")
    with pytest.raises(
        UserError, match=r"(?s)point softmax=consmax seed=1: softmax=consmax.*skip_invalid=true goes on"
    ):
        valid(checked([good, Point({"softmax": "consmax", "seed": 1}, bad)]), skipped=None)


def test_names_can_be_read_and_do_not_depend_on_the_order_of_points(configure):
    points = [Point({"softmax": "softmax", "seed": s, "model.n_layer": 1}, configure(seed=s)) for s in (0, 1)]
    assert trial_name(points[1]).rsplit("-", 1)[0] == "softmax-seed1-n_layer1"
    assert study_name(points) == study_name(points[::-1])
    assert study_name(points).startswith("softmax-seed-n_layer-")
    assert study_name(points[:1]) != study_name(points)


def test_a_point_is_named_shortly():
    assert len(str(at_point({"name": "x" * 5000}, UserError("no")))) < 100
