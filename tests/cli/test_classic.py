"""The flags of sample scripts descended from nanoGPT."""

from __future__ import annotations

import pytest

from minigpt.cli.classic import in_our_words
from minigpt.cli.sample import SampleConfig
from minigpt.cli.words import in_hydras_words
from minigpt.errors import UserError


def words(*arguments: str) -> list[str]:
    return in_our_words(list(arguments), SampleConfig)


CLASSIC = {
    "out_dir": "checkpoint=out/x",
    "start": "start=a b",
    "num_samples": "num_samples=3",
    "max_new_tokens": "max_new_tokens=50",
    "temperature": "temperature=0.5",
    "top_k": "top_k=20",
    "seed": "seed=7",
    "device": "device=cpu",
    "lm_eval_tasks": "lm_eval_tasks=[a,b]",
}


@pytest.mark.parametrize(("flag", "expected"), CLASSIC.items())
def test_a_flag_with_its_value_is_a_key(flag, expected):
    value = expected.partition("=")[2].strip("[]")
    key, _, said = expected.partition("=")
    expected = [f'++{key}="{said}"' if key in ("checkpoint", "start", "device") else f"++{expected}"]
    for form in ((f"--{flag}={value}",), (f"--{flag}", value)):
        assert in_hydras_words(words(*form), SampleConfig) == expected
    assert in_hydras_words(words(f"--{flag.replace('_', '-')}={value}"), SampleConfig) == expected


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--colorize_output"], ["colorize_output=probability"]),
        (["--colorize_output", "--start", "x"], ["colorize_output=probability", "--start", "x"]),
        (["--colorize_output", "rank"], ["colorize_output=rank"]),
        (["--colorize_output=entropy"], ["colorize_output=entropy"]),
        (["--colorize_output=True"], ["colorize_output=probability"]),
        (["--colorize_output", "False"], ["colorize_output=null"]),
        (["--no-colorize_output"], ["colorize_output=null"]),
        (["--show_heatmaps"], ["--show_heatmaps"]),
        (["--show_heatmaps", "seed=1"], ["--show_heatmaps", "seed=1"]),
        (["--show_heatmaps", "true"], ["show_heatmaps=true"]),
        (["--no-show_heatmaps"], ["show_heatmaps=false"]),
        (["--start", "--out_dir"], ["--start", "--out_dir"]),  # a prompt
        (["start=--x", "top_k=3", "-m"], ["start=--x", "top_k=3", "-m"]),
        (["--help"], ["--help"]),
        (["--cfg", "job"], ["--cfg", "job"]),
        (["--config-dir", "my"], ["--config-dir", "my"]),
    ],
)
def test_switches_stand_alone_and_everything_else_stays(arguments, expected):
    assert words(*arguments) == expected


@pytest.mark.parametrize(
    ("flag", "near"),
    [("--outdir", "--out_dir"), ("--max_token", "--max_new_tokens"), ("--colourize_output", "--colorize_output")],
)
def test_an_unknown_flag_gives_the_nearest(flag, near):
    for form in ([flag, "1"], [f"{flag}=1"]):
        with pytest.raises(UserError, match=f"{flag}: there is no such option. Did you mean '{near}'"):
            words(*form)


def test_a_flag_without_its_value_and_a_thing_said_twice_are_refused():
    for flag in ("--out_dir", "--start"):
        with pytest.raises(UserError, match="expected a value after it"):
            in_hydras_words(words(flag), SampleConfig)
    with pytest.raises(UserError, match="checkpoint: given twice"):
        in_hydras_words(words("--out_dir=a", "checkpoint=b"), SampleConfig)
