"""Random command lines, hostile ones among them: each composes and builds, or ends in a UserError of a few lines.

MINIGPT_FUZZ=10000 says how many, MINIGPT_FUZZ_SEED from where; the same seed is the same command lines.
"""

from __future__ import annotations

import contextlib
import io
import os
import random
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

import pytest

from minigpt import registry
from minigpt.cli import choices, console, page
from minigpt.cli.check import CheckConfig
from minigpt.cli.components import ComponentsConfig
from minigpt.cli.entry import run_hydra
from minigpt.config import TrainConfig
from minigpt.data.prepare_config import PrepareConfig
from minigpt.errors import UserError
from minigpt.evaluation.config import EvaluationConfig
from minigpt.exchange.config import ExportConfig, ImportConfig
from minigpt.generation.config import SampleConfig
from minigpt.report.curves import CurvesConfig
from minigpt.report.inspection import InspectConfig
from minigpt.report.ppa import PpaReportConfig
from minigpt.search.greedy import SearchConfig
from minigpt.shipped import CONF
from minigpt.training.fit import refuse_unbuildable
from tests.hostile.world import make_world, watched

COUNT = int(os.environ.get("MINIGPT_FUZZ", "60"))  # some 15 s on two cores; half as many of the other commands
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


COMMANDS = {
    "sample": SampleConfig,
    "evaluate": EvaluationConfig,
    "inspect": InspectConfig,
    "import": ImportConfig,
    "export": ExportConfig,
    "prepare": PrepareConfig,
    "check": CheckConfig,
    "components": ComponentsConfig,
    "search": SearchConfig,
    "report ppa": PpaReportConfig,
    "report curves": CurvesConfig,
}
LIVELY = {"watch", "interactive", "max_new_tokens", "num_samples", "lm_eval_tasks", "device", "dataset", "workers"}
"""Keys that, rightly, make a command go on for long, ask the network or many processes."""
DONE = ("sample", "inspect", "import", "export", "prepare", "report ppa", "report curves")
"""Commands that a test lets do what they are asked for; of the others it has the checked configuration."""


def command_lines(seed: int, count: int, known: Sequence[str] = ()) -> Iterator[list[str]]:
    """Random command lines of one to three arguments; now and then a sweep, or a question for help. known: keys to
    take, none for those of training."""
    draw = random.Random(seed)
    known = known or keys()
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
        asked = draw.random()
        if asked < 0.08:
            line = ["-m", *(f"{word},{draw.choice(WORDS + NUMBERS)}" for word in line)]
        elif asked < 0.1:
            line.append(draw.choice(("--help", "-h", "--version", "--cfg")))
        yield line


def outcome(arguments: list[str]) -> str:
    """What a line of training comes to: "built", "refused", "raised: ..." or, in too many words, "long: ..."."""

    def build(run: TrainConfig) -> None:
        if run.model.n_layer <= LONGEST_BUILD:
            refuse_unbuildable(run)

    return ending(lambda: run_hydra("train", TrainConfig, build), ["train.py", *arguments])


def outcome_of(command: str, arguments: list[str]) -> str:
    """The same of any other command."""
    if command in DONE:
        return ending(lambda: console.main([*command.split(), *arguments]), [])
    name = {"search": "hyperparam_search"}.get(command, command)
    return ending(lambda: run_hydra(name, COMMANDS[command], lambda config: None), [f"minigpt {command}", *arguments])


def ending(call: Callable[[], object], typed: list[str]) -> str:
    sys.argv = typed
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
            call()
    except UserError as error:
        return of_message(str(error))
    except OSError:
        return "refused"
    except SystemExit as end:
        if end.code == 2:
            return of_message(said.getvalue())
        return "built" if end.code in (0, None) else f"exit {end.code}: {said.getvalue()[-300:]}"
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | pytest.fail.Exception):
            raise
        return f"raised: {type(error).__name__}: {str(error)[:200]}"
    return "built"


def of_message(text: str) -> str:
    return "refused" if len(text.splitlines()) <= 4 and len(text) < 4000 else f"long: {text[:300]}"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def quiet(monkeypatch, tmp_path):
    """An empty folder, a command line that is put back, and nothing that is trained."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", sys.argv)
    monkeypatch.setattr("minigpt.search.run.sweep", lambda *_: True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def shown(lines: Iterable[tuple[object, str]]) -> str:
    return "\n".join(f"{line!r:.300}\n    {found}" for line, found in lines)


def test_random_command_lines_never_end_in_a_raw_exception(quiet):
    seen: Counter[str] = Counter()
    bad = []
    for line in command_lines(SEED, COUNT):
        found = outcome(line)
        seen[found.split(":")[0]] += 1
        if found not in ("built", "refused"):
            bad.append((line, found))
    print(dict(seen))
    assert not bad, shown(bad[:20])
    assert seen["refused"] > COUNT / 4


def test_random_lines_of_every_other_command_never_end_in_a_raw_exception(quiet, world, tmp_path):
    """Each has, most of the time, what it needs, so that more than the first missing key is reached."""
    needed = {
        "sample": [f"checkpoint={world.run}", "max_new_tokens=3", "device=cpu"],
        "evaluate": [f"checkpoint={world.run}"],
        "inspect": [f"directory={world.run}"],
        "import": [f"source={world.hf}", "out=imported"],
        "export": [f"checkpoint={world.run}", "out=exported"],
        "prepare": [f"source={world.data.parent / 'words.txt'}", "name=new"],
        "report ppa": [f"runs={world.run}", "out=ppa"],
        "report curves": [f"runs={world.run}", "out=curves"],
    }
    seen: Counter[str] = Counter()
    bad = []
    draw = random.Random(SEED)
    for number in range(COUNT // 2):
        command = draw.choice(sorted(COMMANDS))
        known = [key for key, _, _ in page.keys_of(COMMANDS[command], {}) if key.split(".")[0] not in LIVELY]
        (line,) = command_lines(SEED * COUNT + number, 1, known)
        line = [word for word in line if not any(lively in word for lively in LIVELY)]
        if draw.random() < 0.8:
            taken = {word.split("=")[0] for word in line}
            line = [word for word in needed.get(command, []) if word.split("=")[0] not in taken] + line
        with watched():
            found = outcome_of(command, line)
        seen[found.split(":")[0]] += 1
        if found not in ("built", "refused"):
            bad.append(((command, line), found))
        for each in tmp_path.iterdir():
            shutil.rmtree(each, ignore_errors=True) if each.is_dir() else each.unlink()
    print(dict(seen))
    assert not bad, shown(bad[:20])
