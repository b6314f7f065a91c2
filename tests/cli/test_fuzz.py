"""Random command lines, hostile ones among them: each composes and builds, or ends in a UserError of a few lines.

MINIGPT_FUZZ=10000 says how many, MINIGPT_FUZZ_SEED from where; the same seed is the same command lines.
"""

from __future__ import annotations

import contextlib
import io
import os
import random
import sys
from collections import Counter
from collections.abc import Iterator

import pytest

from minigpt import registry
from minigpt.cli import choices, page
from minigpt.cli.entry import run_hydra
from minigpt.config import TrainConfig
from minigpt.errors import UserError
from minigpt.shipped import CONF
from minigpt.training.fit import refuse_unbuildable

COUNT = int(os.environ.get("MINIGPT_FUZZ", "60"))  # some 15 s on two cores
SEED = int(os.environ.get("MINIGPT_FUZZ_SEED", "0"))
LONGEST_BUILD = 64  # layers, beyond which a test has nothing to learn

WORDS = ["", " ", "null", "true", "nan", "inf", "-inf", "-1", "0", "1", "2", "3.5", "1e3", "1e400", "0x10", "auto", "x"]
NUMBERS = ["2147483648", str(2**62), str(2**63), str(2**64), "1" + "0" * 400, "-" + "9" * 5000, "1e308", "1_000"]
PATHS = [
    "out/a=b",
    "a (copy)",
    "ünï/çode",
    "日本",
    "../..",
    "/dev/null",
    "/proc/self",
    "a?b",
    "a*b",
    "~",
    "-",
    ".",
    "a/" * 300,
]
TEXTS = [
    "a\0b",
    "\x1b[31mred",
    "a\nb",
    "a\tb",
    "‮evil",
    "\ud800",
    "[bold]x[/nope]",
    "=1+1",
    "x" * 5000,
    "'",
    '"',
    "\\",
    "'a",
    '"a',
]
GRAMMAR = [
    "[",
    "]",
    "{",
    "}",
    "[a,{b:c}]",
    "{a:b}",
    "[1,2",
    "a,b",
    "${seed}",
    "${nope}",
    "${oc.env:HOME}",
    "${",
    "${${}}",
]
GRAMMAR += [
    "${a:b}",
    "choice(1,2)",
    "range(3)",
    "range(1,",
    "glob(*)",
    "int(x)",
    "sort(1,2)",
    "[[[[]]]]",
    "{a:{b:{c:[]}}}",
]
GRAMMAR += [
    "a:b",
    "a@b",
    "???",
    "!!python/name:os.system",
    "&a *a",
    "%",
    "$",
    "#x",
    "~x",
    "+",
    "++",
    "[.]",
    "['']",
    "[null]",
]
SHAPES = [
    "plugins={}",
    "plugins=[{}]",
    "pattern=[{}]",
    "pattern={}",
    "blocks={{a: {}}}",
    "blocks={}",
    "blocks={{a: {{norm: {}}}}}",
    "layers={{0: {}}}",
    "layers={{{}: default}}",
    "sites={}",
    "sites={{linear: {{q: {}}}}}",
    "share.block={}",
    "share={}",
    "transforms=[{}]",
    "transforms={}",
    "training.max_steps.x={}",
    "model={}",
    "data={}",
    "resume={}",
    "init_from={}",
    "{}=1",
    "{}",
    "+{}=1",
    "++model.{}=1",
    "model.d_model.{}=1",
    "--{}",
    "--seed={}",
    "~{}",
    "norm={}",
    "hardware={}",
    "study={}",
    "explorations={}",
    "logger={}",
    "name={}",
    "optimizer.lr={}",
    "search.space={}",
    "transform={}",
    "parts={}",
]


def keys() -> list[str]:
    """Every key a training configuration takes, and every option of every component."""
    choices.store_components()
    plain = [key for key, _, _ in page.keys_of(TrainConfig, {})]
    options = [
        f"{axis}.{option}"
        for axis in registry.axes()
        for name in registry.names(axis)
        for option in registry.entry(axis, name).config.__dataclass_fields__
    ]
    return plain + options + sorted(choices.groups())


def command_lines(seed: int, count: int) -> Iterator[list[str]]:
    """Random command lines of one to three arguments."""
    draw = random.Random(seed)
    known = keys()
    names = [name for axis in registry.axes() for name in registry.names(axis)]
    names += [file.stem for file in CONF.rglob("*.yaml")]
    hostile = WORDS + NUMBERS + PATHS + TEXTS + GRAMMAR
    for _ in range(count):
        line = []
        for _ in range(draw.choice((1, 1, 1, 2, 3))):
            value = draw.choice(draw.choice((names, hostile, WORDS, NUMBERS)))
            kind = draw.random()
            if kind < 0.65:
                line.append(f"{draw.choice(known)}={value}")
            elif kind < 0.9:
                line.append(draw.choice(SHAPES).format(value))
            else:
                line.append("".join(draw.choice(hostile)[:20] for _ in range(2)))
        yield line


def outcome(arguments: list[str], capture: bool = True) -> str:
    """What a command line comes to: "built", "refused", "raised: ..." or, said in too many words, "long: ..."."""
    if {"--help", "-h", "--version", "-m"} & set(arguments):
        return "refused"

    def build(run: TrainConfig) -> None:
        if run.model.n_layer <= LONGEST_BUILD:
            refuse_unbuildable(run)

    sys.argv = ["train.py", *arguments]
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            run_hydra("train", TrainConfig, build)
    except UserError as error:
        text = str(error)
        return "refused" if len(text.splitlines()) <= 4 and len(text) < 4000 else f"long: {text[:300]}"
    except OSError:
        return "refused"
    except SystemExit as end:
        return f"exit {end.code}"
    except BaseException as error:
        return f"raised: {type(error).__name__}: {str(error)[:200]}"
    return "built"


@pytest.fixture
def quiet(monkeypatch, tmp_path):
    """An empty folder, and a command line that is put back."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", sys.argv)


def test_random_command_lines_never_end_in_a_raw_exception(quiet):
    seen: Counter[str] = Counter()
    bad = []
    for line in command_lines(SEED, COUNT):
        found = outcome(line)
        seen[found.split(":")[0]] += 1
        if found not in ("built", "refused"):
            bad.append((line, found))
    print(dict(seen))
    assert not bad, "\n".join(f"{line!r:.300}\n    {found}" for line, found in bad[:20])
    assert seen["refused"] > COUNT / 4
