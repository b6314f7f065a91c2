"""sample.py: from a checkpoint and a prompt to text, and what it says when one of them is wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from minigpt.data.tokenizers import ByteTokenizer, CharTokenizer
from minigpt.errors import UserError
from minigpt.generation.config import SampleConfig, Sampling
from minigpt.generation.decoding import generate
from minigpt.generation.sample import _texts, sample
from minigpt.model import GPT
from minigpt.model.checkpoint import save_checkpoint
from minigpt.testing import make_spec

ROOT = Path(__file__).parents[2]
CHARACTERS = "\n abcdeTh"


@pytest.fixture
def run(tmp_path) -> Path:
    tokenizer = CharTokenizer(CHARACTERS)
    model = GPT.create(make_spec(vocab_size=16))  # wider than the vocabulary
    meta = {"step": 7, "val_loss": 1.5}
    save_checkpoint(tmp_path / "run" / "checkpoint" / "best", model, tokenizer=tokenizer.to_json(), meta=meta)
    return tmp_path / "run"


def config(run: Path, **options) -> SampleConfig:
    return SampleConfig(checkpoint=str(run), **({"start": "The ", "max_new_tokens": 30, "device": "cpu"} | options))


def test_the_prompt_and_its_continuation_are_printed_and_the_speed_beside_them(run, capsys):
    sample(config(run))
    out, err = capsys.readouterr()
    tokenizer, model = CharTokenizer(CHARACTERS), GPT.create(make_spec(vocab_size=16)).eval()
    prompt = torch.as_tensor(tokenizer.encode("The "))[None]
    expected = generate(model, prompt, 30, Sampling(), 0, vocab_size=len(CHARACTERS))
    assert out == "The " + tokenizer.decode(expected[0].tokens) + "\n"
    assert "30 tokens in" in err
    assert "tokens/s on cpu" in err
    assert "step 7, val_loss 1.5000" in err


def test_streamed_or_not_alone_or_first_of_many_a_sample_is_the_same(run, capsys):
    printed = []
    for options in ({}, {"stream": False}, {"num_samples": 3}):
        sample(config(run, **options))
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    samples = printed[2].removesuffix("\n").split("\n---------------\n")
    assert samples[0] == printed[0].removesuffix("\n")
    assert len(set(samples)) == 3


def test_the_prompt_may_be_a_file(run, tmp_path, capsys):
    (tmp_path / "prompt.txt").write_text("The cab\n", encoding="utf-8")
    sample(config(run, start=f"FILE:{tmp_path / 'prompt.txt'}"))
    assert capsys.readouterr().out.startswith("The cab\n")
    with pytest.raises(UserError, match=r"start: .*nowhere\.txt cannot be read"):
        sample(config(run, start="FILE:nowhere.txt"))


def test_a_character_outside_the_vocabulary_is_named(run):
    with pytest.raises(UserError, match=r"start: .*'X' \(U\+0058\)"):
        sample(config(run, start="The X"))


def test_an_empty_prompt_needs_a_token_to_begin_with(run):
    with pytest.raises(UserError, match="start: is empty"):
        sample(config(run, start=""))


def test_a_tokenizer_of_another_model_is_refused(tmp_path):
    model = GPT.create(make_spec(vocab_size=5))
    save_checkpoint(tmp_path / "last", model, tokenizer=ByteTokenizer().to_json(), meta={})
    with pytest.raises(UserError, match=r"tokenizer\.json: 256 tokens, but the model has 5"):
        sample(config(tmp_path / "last", start="a"))


def test_characters_spread_over_tokens_are_printed_whole():
    text = "aé€\U0001f600z"
    assert list(_texts(text.encode(), [], ByteTokenizer())) == list(text)


def cli(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, ROOT / "sample.py", *arguments], capture_output=True, text=True, cwd=ROOT)


def test_the_command_line_samples(run):
    done = cli(f"checkpoint={run}", "start=The ", "max_new_tokens=20", "temperature=0", "top_k=null", "device=cpu")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("The ")
    assert len(done.stdout) == len("The ") + 20 + 1
    assert "tokens/s" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "checkpoint: which one?"),
        (["checkpoint=out/no_such_run_here"], "no such folder"),
        (["checkpoint=x", "temprature=1"], "Did you mean 'temperature'"),
        (["checkpoint=x", "top_p=2"], "top_p: 2"),
    ],
)
def test_a_mistake_is_one_or_two_lines_and_exit_code_2(arguments, message):
    done = cli(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 2
    assert done.stdout == ""
