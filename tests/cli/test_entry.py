"""What a person sees who mistypes: one or two lines, the nearest valid choice, exit code 2, nothing written."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from minigpt import registry
from minigpt.cli import console
from minigpt.cli.entry import reported_errors
from minigpt.training.record import read_run
from tests.warm import python

ROOT = Path(__file__).parents[2]


def run(folder: Path, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return python(ROOT / script, *arguments, cwd=folder, env={"COLUMNS": "120"})


BAD_INPUT = {
    "model.n_lyer=3": r"model\.n_lyer: unknown key 'n_lyer'\. Did you mean 'n_layer'\?",
    "+model.n_lyer=3": r"model\.n_lyer: unknown key 'n_lyer'\. Did you mean 'n_layer'\?",
    "++training.max_step=3": r"training\.max_step: unknown key 'max_step'\. Did you mean 'max_steps'\?",
    "+flavour=vanilla": r"flavour: unknown key 'flavour'",
    "nrom=rmsnorm": r"nrom: unknown key 'nrom'\. Did you mean 'norm'\?",
    "norm=rmsnrm": r"norm: there is no norm named 'rmsnrm'\. Did you mean 'rmsnorm'\?\n  choices: .*layernorm",
    "model=nanogpt": r"model: there is no model named 'nanogpt'\. Did you mean 'nanogpt_.pu'\?",
    "optimizer=adam": r"optimizer: there is no optimizer named 'adam'\. Did you mean 'adamw'\?",
    "attention.n_kv_heads=2": r"attention\.n_kv_heads: 'causal' has no option .*Did you mean 'n_kv_head'\?",
    "attention=linear attention.window=8": r"attention\.window: 'linear' has no option 'window'.*option of causal",
    "+softmax.beta_init=2.0": r"softmax\.beta_init: 'softmax' has no option .* It is an option of consmax",
    "attention=linear softmax=consmax": r"softmax=consmax would be ignored: attention=linear.* Leave softmax=softmax",
    "attention=linear position=alibi": r"attention=linear does not support position=alibi, which acts on score",
    "mlp=identity activation=relu": r"activation=relu would be ignored",
    "model.d_model=130": r"model\.d_model: 130 is not divisible by model\.n_head=4\. Take d_model=128 or 132",
    "attention.n_kv_head=5": r"attention\.n_kv_head: 5 is more than model\.n_head=4",
    "attention.window=1000": r"attention\.window: 1000 is more than model\.block_size=128 and would do nothing",
    "attention.n_kv_head=0": r"attention\.n_kv_head: 0 is out of range, expected >= 1",
    "model.n_layer=two": r"model\.n_layer: expected a whole number, got 'two'",
    "training.precision=fp8": r"training\.precision: expected one of auto, fp32, bf16, fp16, got 'fp8'",
    "training.max_steps=null": r"training: no budget\. Set one of",
    "data.name=pydoc": r"pydoc.*(Did you mean 'pydocs'|pydocs)",
    "device=gpu": r"device",
    "logger.project=mine": r"logger\.project: is an option of wandb; logger=none would ignore it",
    "resume=out/nothing": r"resume: no run in 'out/nothing'",
    "pattern=[local]": r"pattern\[0\]: there is no block named 'local'",
    "plugins=[no_such_module]": r"plugins: no module 'no_such_module'",
    "model.d_model": r"model\.d_model",
    "study=mine": r"study: is heeded by sweeps .* a single run would ignore it",
    "workers=2": r"workers: is heeded by sweeps",
    "name=../elsewhere": r"name: '\.\./elsewhere' leads out of 'out'",
    "softmax=[softmax,relumax]": r"softmax: expected one name, .* To try several: -m softmax=softmax,relumax",
    "model=1": r"model: there is no model named '1'",
    "resume=20261125": r"resume: no run in '20261125'",
    "model=null": r"model: there is no model named 'null'",
    "training.max_steps.x=1": r"training\.max_steps",
    "mlp=[a,{b:c}]": r"mlp: expected one name",
    "plugins=[.]": r"plugins: '\.' is no module",
    "seed=${nope}": r"Interpolation key 'nope' not found",
    "--nmae x": r"--nmae: there is no such option\. Did you mean '--name'\?",
    "seed=1 seed=2": r"seed: given twice",
    "seed=99999999999999999999999": r"seed: 99999999999999999999999 is more than 64 bits hold",
}


def test_an_error_in_a_plugin_is_its_own_traceback_in_nobody_elses_words(tmp_path):
    text = "from minigpt.components.norm.rmsnorm import RMSNorm\nfrom minigpt.registry import register\n"
    text += '@register("norm", "wrong")\nclass Wrong(RMSNorm):\n    def __init__(self, config, ctx, width): 1 / 0\n'
    (tmp_path / "mine.py").write_text(text)
    done = run(tmp_path, "train.py", "plugins=[mine.py]", "norm=wrong")
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
    assert "Error executing job" not in done.stderr
    assert "site-packages/hydra" not in done.stderr


@pytest.mark.parametrize("arguments", BAD_INPUT)
def test_bad_input_is_two_lines_and_exit_code_2(tmp_path, arguments):
    done = run(tmp_path, "train.py", *arguments.split())
    assert done.returncode == 2, done.stdout + done.stderr
    assert re.search(BAD_INPUT[arguments], done.stderr, flags=re.DOTALL), done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 3, done.stderr
    assert not (tmp_path / "out").exists()


def test_a_former_name_is_understood_and_not_offered(tmp_path):
    (tmp_path / "renamed.py").write_text(
        "from minigpt.components.norm.rmsnorm import RMSNorm\nfrom minigpt.registry import register\n\n"
        "@register('norm', 'renamed', aliases=['former'])\nclass Renamed(RMSNorm):\n    'x / rms(x)'\n"
    )
    missing = run(tmp_path, "train.py", "plugins=[./renamed.py]", "norm=former", "data.name=no_such_data")
    assert "no_such_data" in missing.stderr
    typo = run(tmp_path, "train.py", "plugins=[./renamed.py]", "norm=formr")
    assert typo.stderr.splitlines()[1] == f"  choices: {', '.join(sorted([*registry.names('norm'), 'renamed']))}"


def test_a_typo_inside_a_file_is_found_too(tmp_path):
    (tmp_path / "explorations").mkdir()
    (tmp_path / "explorations" / "mine.yaml").write_text("# @package _global_\nmodel: {n_hed: 2}\n")
    done = run(tmp_path, "train.py", "explorations=mine")
    assert done.returncode == 2
    assert re.search(r"model\.n_hed: unknown key 'n_hed'\. Did you mean 'n_head'\?", done.stderr), done.stderr


def test_a_bad_point_of_a_sweep_stops_it_before_it_starts(tmp_path):
    done = run(tmp_path, "train.py", "-m", "attention=causal,linear", "softmax=softmax,consmax")
    assert done.returncode == 2
    assert re.search(r"softmax=consmax would be ignored", done.stderr), done.stderr
    assert not (tmp_path / "out").exists()


def test_composing_needs_no_torch(tmp_path):
    code = (
        "import sys, runpy; sys.argv = ['train.py', '--cfg', 'job']\n"
        f"try: runpy.run_path({str(ROOT / 'train.py')!r}, run_name='__main__')\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "heavy = {'torch', 'wandb', 'optuna', 'matplotlib', 'transformers'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "n_kv_head" in done.stdout


def test_help_lists_what_can_be_chosen(tmp_path):
    done = run(tmp_path, "train.py", "--help")
    assert done.returncode == 0
    for word in (
        "softmax=softmax ",
        "consmax",
        "nanogpt_cpu",
        "gqa",
        "train.py -m softmax",
        "steps between validations",
    ):
        assert word in done.stdout, word


def test_a_checkpoint_that_is_not_there_is_named(tmp_path):
    done = run(tmp_path, "sample.py", "checkpoint=out/nothing")
    assert done.returncode == 2
    assert "out/nothing" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_torn_configuration_is_named_on_resume(tmp_path):
    (tmp_path / "out" / "torn").mkdir(parents=True)
    (tmp_path / "out" / "torn" / "config.yaml").write_text("x: [")
    done = run(tmp_path, "train.py", "resume=out/torn")
    assert done.returncode == 2
    assert "out/torn/config.yaml: cannot be read" in done.stderr
    assert "Traceback" not in done.stderr


def test_only_training_sweeps(tmp_path):
    done = run(tmp_path, "sample.py", "-m", "checkpoint=out/a", "seed=0,1")
    assert done.returncode == 2
    assert "only training sweeps" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_has_gone_is_no_traceback(tmp_path):
    command = f"{sys.executable} {ROOT / 'train.py'} --help | head -1"
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.stdout == "Train a GPT whose every part is chosen by name.\n"
    assert done.stderr == ""


def test_a_training_whose_reader_has_gone_is_interrupted_and_can_be_gone_on_with(tmp_path):
    keys = "name=x model.n_layer=1 model.d_model=16 model.n_head=2 training.batch_size=2 data.val_tokens=2000"
    budget = "training.max_steps=20000 training.eval_interval=5 device=cpu"
    command = f"{sys.executable} {ROOT / 'train.py'} {keys} {budget} data.folder={ROOT / 'data'} | head -4"
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert "parameters" in done.stdout
    assert "step      5" in done.stdout
    assert "Traceback" not in done.stderr
    record = read_run(tmp_path / "out" / "x")
    assert (record.status, record.reason) == ("interrupted", f"output closed at step {record.steps}")
    assert read_run(tmp_path / "out" / "x").steps >= 5
    assert (tmp_path / "out" / "x" / "checkpoint" / "last").is_dir()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("--help", 0, "minigpt check my_plugin norm=mine"),
        ("--version", 0, "minigpt "),
        ("", 2, "check: nothing to check. Name a module (my_plugin) or a variant (norm=rmsnorm)"),
        ("nrom=dyt", 2, "check: there are no contracts for 'nrom'. Did you mean 'norm'?"),
        ("norm=dty", 2, "there is no norm named 'dty'. Did you mean 'dyt'?"),
        ("no_such_module", 2, "plugins: no module 'no_such_module'"),
        ("--nope", 2, "--nope: there is no such option"),
        ("norm=rmsnorm", 0, "1 variants hold all"),
    ],
)
def test_check_takes_the_grammar_of_the_other_commands(tmp_path, words, code, message):
    done = python("-m", "minigpt", "check", *words.split(), cwd=tmp_path, env={"PYTHONPATH": str(ROOT)})
    assert done.returncode == code, done.stdout + done.stderr
    assert message in (done.stderr if code else done.stdout)
    assert "Traceback" not in done.stderr


def test_paths_and_names_mean_themselves(tmp_path):
    words = ["out=a=b (c)", "name=ünï côde", "--cfg", "job"]
    done = run(tmp_path, "train.py", *words)
    assert done.returncode == 0, done.stderr
    assert "out: a=b (c)\nname: ünï côde" in done.stdout


def test_every_command_has_help_and_a_version(tmp_path):
    for command in ("train", "sweep", "search", "sample", "prepare", "report ppa", "inspect", "components"):
        done = run(tmp_path, "minigpt/__main__.py", *command.split(), "--help")
        assert done.returncode == 0, done.stderr
        assert f"minigpt {command}" in done.stdout
        assert "Keys (key=value" in done.stdout
    assert run(tmp_path, "train.py", "--version").stdout.startswith("minigpt")


def test_terminal_escapes_of_a_command_line_do_not_reach_the_screen(tmp_path):
    done = run(tmp_path, "train.py", "name=\x1b[31mred")
    assert done.returncode == 2
    assert "\x1b" not in done.stderr


def test_no_memory_left_is_one_line(capsys):
    with pytest.raises(SystemExit) as end, reported_errors():
        bytearray(1 << 62)
    assert (end.value.code, capsys.readouterr().err.splitlines()[0][:13]) == (2, "out of memory")


@pytest.mark.parametrize("word", ["init_from=gpt2", "resume=out/run"])
@pytest.mark.parametrize("command", ["sample checkpoint=x", "report ppa", "inspect"])
def test_what_training_alone_starts_from_is_no_key_of_another_command(command, word, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", sys.argv)
    with pytest.raises(SystemExit, match="2"):
        console.main([*command.split(), word])
    assert f"unknown key '{word.split('=')[0]}'" in capsys.readouterr().err
