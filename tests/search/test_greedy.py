"""The greedy search: on paper, where every loss is known, and once for real."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from minigpt import schema
from minigpt.config import TrainConfig
from minigpt.errors import UserError
from minigpt.search.greedy import GreedyConfig, GreedySearch
from minigpt.search.results import FILE
from minigpt.search.space import check_space, steps
from minigpt.search.study import Study
from tests.search.paper import PaperLauncher

SPACE = {
    "model.n_layer": {"step": 1, "min": 1, "max": 4},
    "model.d_model": {"factor": 2, "max": 64},
    "softmax": {"names": ["softmax", "consmax", "relumax"]},
}


def options(**changes: Any) -> GreedyConfig:
    content = {"space": SPACE, "seeds": [0, 1], "fresh_seeds": [7, 8, 9], "min_gain_per_cost": 0.1} | changes
    return schema.typed(GreedyConfig, content, "search")


def loss(run: TrainConfig) -> float | None:
    """Depth helps up to 3 layers, width little; consmax is best, relumax fails with seed 1."""
    if run.parts["softmax"].name == "relumax" and run.seed == 1:
        return None
    depth = {1: 3.0, 2: 2.5, 3: 2.2, 4: 2.19}[run.model.n_layer]
    return depth - 0.001 * run.model.d_model - (0.05 if run.parts["softmax"].name == "consmax" else 0) + 0.1 * run.seed


def search(folder: Path, base: TrainConfig, asked: GreedyConfig, launcher: PaperLauncher) -> dict[str, Any]:
    """Run it; the contents of its results.yaml."""
    with Study(folder) as study:
        GreedySearch(base, asked).run(study, launcher, 1)
    return yaml.safe_load((folder / FILE).read_text())


def test_it_takes_what_is_free_first_and_then_what_is_worth_its_cost(tmp_path, configure):
    found = search(tmp_path / "s", configure(), options(rounds=5), PaperLauncher(loss))
    assert [r["chosen"] for r in found["rounds"]] == ["softmax=consmax", "model.n_layer=2", "model.n_layer=3", None]
    assert found["winner"] == {"model.n_layer": 3, "model.d_model": 16, "softmax": "consmax"}
    assert found["verdict"]["verdict"] == "holds"
    assert found["verdict"]["n"] == 3
    assert found["verdict"]["mean_gain"] == pytest.approx(0.85)
    assert found["verdict"]["gain_by_seed"] == {s: pytest.approx(0.85) for s in (7, 8, 9)}
    steps = {step["change"]: (step["verdict"], step["mean_gain"]) for step in found["verdict"]["steps"]}
    assert steps == {
        "softmax=consmax": ("holds", pytest.approx(0.05)),
        "model.n_layer=2": ("holds", pytest.approx(0.5)),
        "model.n_layer=3": ("holds", pytest.approx(0.3)),
    }
    reasons = {c["change"]: c["reason"] for c in found["rounds"][0]["candidates"]}
    assert reasons["softmax=relumax"] == "seed 1 failed (on paper)"
    assert found["rounds"][1]["candidates"][0]["gain"] == pytest.approx(0.5)


def test_a_search_that_was_stopped_anywhere_comes_to_the_same_end(tmp_path, configure):
    whole = PaperLauncher(loss)
    expected = search(tmp_path / "whole", configure(), options(), whole)
    place, trained = tmp_path / "parts", 0
    chance = random.Random(0)
    for _ in range(100):
        launcher = PaperLauncher(loss, dies_at=chance.randint(5, 15))
        try:
            found = search(place, configure(), options(), launcher)
            break
        except KeyboardInterrupt:
            assert yaml.safe_load((place / FILE).read_text())["rounds"]  # what was known by then
        finally:
            trained += len(launcher.ran)
    assert trained == len(whole.ran)
    assert {k: found[k] for k in ("rounds", "winner", "verdict")} == {
        k: expected[k] for k in ("rounds", "winner", "verdict")
    }
    again = PaperLauncher(loss)
    search(place, configure(), options(), again)
    assert again.ran == []


def test_an_invalid_candidate_is_recorded_with_its_reason_and_not_run(tmp_path, configure):
    asked = options(space={"model.d_model": {"step": 3, "max": 20}}, rounds=1)
    launcher = PaperLauncher(loss)
    found = search(tmp_path / "s", configure(), asked, launcher)
    (down, up) = found["rounds"][0]["candidates"]
    assert (down["change"], up["change"]) == ("model.d_model=13", "model.d_model=19")
    assert up["reason"].startswith("invalid: model.d_model: 19 is not divisible by model.n_head=2")
    assert len(launcher.ran) == 2  # the baseline
    assert found["verdict"]["verdict"] == "nothing to confirm"


def test_a_winner_of_two_lucky_seeds_does_not_hold(tmp_path, configure):
    def lucky(run: TrainConfig) -> float:
        return 2.0 - (0.5 if run.seed in (0, 1) else -0.2) * (run.parts["softmax"].name == "consmax")

    found = search(tmp_path / "s", configure(), options(rounds=1), PaperLauncher(lucky))
    assert found["winner"]["softmax"] == "consmax"
    assert found["verdict"]["verdict"] == "does not hold"
    assert found["verdict"]["mean_gain"] == pytest.approx(-0.2)


def test_a_step_that_was_luck_is_named_though_the_winner_gains(tmp_path, configure):
    def lucky(run: TrainConfig) -> float:
        luck = (0.3 if run.seed in (0, 1) else -0.1) * (run.parts["softmax"].name == "consmax")
        return 3.0 - 0.5 * run.model.n_layer - luck

    space = {key: SPACE[key] for key in ("softmax", "model.n_layer")}
    found = search(tmp_path / "s", configure(), options(rounds=2, space=space), PaperLauncher(lucky))
    assert [step["verdict"] for step in found["verdict"]["steps"]] == ["does not hold", "holds"]
    assert found["verdict"]["verdict"] == "holds in part"


def test_a_baseline_that_fails_ends_the_search(tmp_path, configure, capsys):
    with Study(tmp_path / "s") as study:
        assert GreedySearch(configure(), options()).run(study, PaperLauncher(lambda run: None), 1) == 1
    assert "the baseline cannot be trained: seed 0 failed (on paper)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"space": {}}, "nothing to search over"),
        ({"space": {"model.n_layer": {}}}, "either step or factor"),
        ({"space": {"model.n_layer": {"step": 1, "factor": 2}}}, "either step or factor"),
        ({"space": {"model.n_layer": {"stp": 1}}}, "Did you mean 'step'"),
        ({"seeds": [1, 1]}, "each once"),
        ({"fresh_seeds": [1]}, "not fresh"),
        ({"max_loss_per_saving": 0.1}, "must stay below"),
        ({"quality": "luck"}, "there is no quality 'luck'"),
    ],
)
def test_a_search_that_makes_no_sense_is_refused(changes, message):
    with pytest.raises(UserError, match=message):
        options(**changes)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"model.n_lyer": {"step": 1}}, "model.n_lyer: there is no such key"),
        ({"softmax": {"step": 1}}, "'softmax' is not a number"),
    ],
)
def test_a_space_that_does_not_fit_the_configuration_is_refused(tmp_path, configure, space, message):
    with pytest.raises(UserError, match=message):
        search(tmp_path / "s", configure(), options(space=space), PaperLauncher(loss))


def test_a_real_search_runs_from_the_command_line(command_line):
    code, output = command_line(
        "hyperparam_search.py", "search.space={attention: {names: [causal, mqa]}}", "search.seeds=[0]",
        "search.fresh_seeds=[1]", "search.rounds=1", "search.min_gain_per_cost=0.0", "study=mine", "workers=2",
    )  # fmt: skip
    assert code == 0, output
    found = yaml.safe_load((command_line.folder / "out" / "mine" / FILE).read_text())
    assert found["rounds"][0]["candidates"][0]["gain"] is not None
    assert found["verdict"]["verdict"] in ("holds", "does not hold", "nothing to confirm")
    assert all(t["status"] == "completed" for t in found["trials"])


def test_a_preset_trains_what_it_says_and_a_space_on_the_command_line_is_all_there_is(command_line):
    code, output = command_line(
        "hyperparam_search.py", "search.space={mlp: {names: [swiglu, gelu_mlp]}}", "search.seeds=[0]",
        "search.fresh_seeds=[1]", "search.rounds=1", "search.min_gain_per_cost=0.0", "study=presets",
    )  # fmt: skip
    assert code == 0, output
    folder = command_line.folder / "out" / "presets"
    found = yaml.safe_load((folder / FILE).read_text())
    assert found["baseline"] == {"mlp": "swiglu"}
    assert [c["change"] for c in found["rounds"][0]["candidates"]] == ["mlp=gelu_mlp"]
    trained = {f.parent.name.split("-")[0]: yaml.safe_load(f.read_text()) for f in folder.glob("*/config.yaml")}
    assert {name: (c["mlp"]["name"], c["activation"]["name"]) for name, c in trained.items()} == {
        "seed0": ("glu", "silu"),
        "gelu_mlp": ("mlp", "gelu"),
    } | ({"seed1": ("glu", "silu")} if "seed1" in trained else {})


@pytest.mark.parametrize(
    ("key", "moves", "message"),
    [
        ("softmax", {"names": ["softmax", "consmx"]}, "there is no softmax named 'consmx'. Did you mean 'consmax'"),
        ("seed", {"step": 1}, "search.space.seed: seeds are search.seeds"),
        ("study", {"names": ["a"]}, "study: cannot be swept"),
        ("model.n_layer", {"step": 0.5}, "search.space.model.n_layer: 1 is a whole number, and so must its step be"),
        ("model.n_lyer", {"step": 1}, "model.n_lyer: there is no such key"),
    ],
)
def test_a_space_that_makes_no_sense_is_refused_before_anything_trains(configure, key, moves, message):
    with pytest.raises(UserError, match=re.escape(message)):
        check_space(options(space={key: moves}).space, configure())


def test_a_list_is_short_for_names():
    assert options(space={"norm": ["rmsnorm", "dyt"]}) == options(space={"norm": {"names": ["rmsnorm", "dyt"]}})


def test_bounds_that_leave_no_room_are_refused():
    with pytest.raises(UserError, match="min 40 is above max 20"):
        options(space={"model.d_model": {"step": 8, "min": 40, "max": 20}})


def test_presets_of_one_component_are_candidates_of_each_other(configure):
    base = configure(attention={"name": "causal", "n_kv_head": 1})
    moves = steps(options(space={"attention": {"names": ["causal", "linear"]}}).space, base, {})
    assert moves == [("attention", "causal"), ("attention", "linear")]
