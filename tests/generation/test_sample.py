"""sample.py: from a checkpoint and a prompt to text, and what it says when one of them is wrong."""

from __future__ import annotations

import dataclasses
import io
import itertools
import json
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from minigpt.cli.page import explanations
from minigpt.data.bpe import train_bpe
from minigpt.data.dataset_folder import open_prepared
from minigpt.data.preparation import PrepareConfig, prepare
from minigpt.data.tokenizers import ByteTokenizer, CharTokenizer
from minigpt.errors import UserError
from minigpt.generation.config import SampleConfig, Sampling
from minigpt.generation.decoding import generate, stream
from minigpt.generation.sample import _stop, sample
from minigpt.model import GPT
from minigpt.model.checkpoint import save_checkpoint
from minigpt.testing import make_spec
from tests.exchange import families
from tests.exchange import nanogpt as nano
from tests.warm import python

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
    with pytest.raises(UserError, match=r"start: nowhere\.txt: could not be read"):
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


def lines(capsys) -> list[dict]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_json_lines_have_everything_and_stdout_nothing_else(run, capsys):
    sample(config(run, format="jsonl", num_samples=2, stop=("a",), max_new_tokens=40))
    tokenizer = CharTokenizer(CHARACTERS)
    found = lines(capsys)
    assert len(found) == 2
    for place, each in enumerate(found):
        assert list(each) == ["prompt", "text", "tokens", "seed", "logprobs", "finish_reason"]
        assert each["prompt"] == "The "
        assert each["seed"] == place
        assert tokenizer.decode(each["tokens"]) == each["text"]
        assert len(each["logprobs"]) == len(each["tokens"])
        assert all(logprob < 0 for logprob in each["logprobs"])
        assert "a" not in each["text"]
        assert each["finish_reason"] in ("stop", "length")
    assert "stop" in [each["finish_reason"] for each in found]


def test_each_line_of_a_file_is_a_prompt_and_equals_itself_alone(run, tmp_path, capsys):
    prompts = ["The ", "ab", "", "hd cab The bad", "e"]
    (tmp_path / "prompts.txt").write_text("\r\n".join(prompts) + "\n", encoding="utf-8")
    several = {"prompts": f"FILE:{tmp_path / 'prompts.txt'}", "start": "\n", "num_samples": 2, "temperature": 1.2}
    sample(config(run, format="jsonl", seed=5, **several))
    found = lines(capsys)
    assert [each["prompt"] for each in found] == [p for p in prompts if p for _ in range(2)]
    for each in found:
        sample(config(run, format="jsonl", start=each["prompt"], seed=each["seed"], temperature=1.2))
        (alone,) = lines(capsys)
        assert alone["tokens"] == each["tokens"]
        assert alone["logprobs"] == pytest.approx(each["logprobs"], abs=1e-4)


def test_many_samples_take_several_batches_and_are_the_same(run, capsys, monkeypatch):
    sample(config(run, num_samples=7))
    whole = capsys.readouterr().out
    monkeypatch.setattr("minigpt.generation.continuing.ROWS", 3)
    sample(config(run, num_samples=7))
    assert capsys.readouterr().out == whole


def test_a_stop_string_ends_the_printed_text_streamed_or_not(run, capsys):
    sample(config(run, max_new_tokens=60))
    whole = capsys.readouterr().out.removesuffix("\n")
    stop = whole[20:23]
    for streamed in (True, False):
        sample(config(run, max_new_tokens=60, stop=("never", stop), stream=streamed))
        assert capsys.readouterr().out == whole[: whole.index(stop, 4)] + "\n"


def test_a_line_break_in_a_stop_string_is_written_as_one_writes_it():
    stop = _stop(SampleConfig(checkpoint="x", stop=(r"\n\n", r"a\tb", r"\\n", "\n")))
    assert stop == ["\n\n", "a\tb", r"\n", "\n"]


def test_the_token_between_documents_ends_a_sample(tmp_path, capsys):
    tokenizer = train_bpe(["the cat sat on the mat. " * 50], 300)
    end = tokenizer.eot_token
    model = GPT.create(make_spec(vocab_size=tokenizer.vocab_size, tie_embeddings=False))
    with torch.no_grad():
        model.head.linear.weight[end] *= 40
    save_checkpoint(tmp_path / "last", model, tokenizer=tokenizer.to_json(), meta={})
    options = {"format": "jsonl", "temperature": 2.0, "num_samples": 8}
    sample(config(tmp_path / "last", **options))
    ended = lines(capsys)
    assert "end" in [each["finish_reason"] for each in ended]
    assert not any(end in each["tokens"] for each in ended)
    sample(config(tmp_path / "last", stop_at_eot=False, **options))
    on = lines(capsys)
    assert {each["finish_reason"] for each in on} == {"length"}
    assert [e["tokens"] for e in ended] == [o["tokens"][: len(e["tokens"])] for e, o in zip(ended, on, strict=True)]


def converse(run, monkeypatch, capsys, said: str, **options) -> tuple[str, str]:
    monkeypatch.setattr(sys, "stdin", io.StringIO(said))
    sample(config(run, start="\n", interactive=True, max_new_tokens=20, **options))
    return capsys.readouterr()


def test_a_conversation_reads_a_prompt_a_line_until_an_empty_one(run, monkeypatch, capsys):
    expected = []
    for prompt in ("The ", "cab"):
        sample(config(run, start=prompt, max_new_tokens=20))
        expected.append(capsys.readouterr().out)
    assert converse(run, monkeypatch, capsys, "The \ncab").out == "".join(expected)
    assert converse(run, monkeypatch, capsys, "The \r\n\ncab").out == expected[0]
    assert converse(run, monkeypatch, capsys, "").out == ""


def test_a_prompt_that_cannot_be_expressed_is_said_and_the_conversation_goes_on(run, monkeypatch, capsys):
    out, err = converse(run, monkeypatch, capsys, "Xyz\nThe \n")
    assert out.startswith("The ")
    assert "start: tokenizer: character 'X'" in err


def test_the_colours_of_a_conversation_are_explained_once(run, monkeypatch, capsys):
    out = converse(run, monkeypatch, capsys, "The \ncab\n", colorize_output="rank").out
    assert out.count("rank of each token") == 1


def test_an_interrupt_leaves_no_colour_behind(run, monkeypatch):
    def interrupted(*arguments, **options):
        yield from itertools.islice(stream(*arguments, **options), 3)
        raise KeyboardInterrupt

    monkeypatch.setattr("minigpt.generation.sample.stream", interrupted)
    monkeypatch.setattr(sys, "stdout", terminal := Terminal())
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.delenv("NO_COLOR", raising=False)
    with pytest.raises(KeyboardInterrupt):
        sample(config(run, colorize_output="rank"))
    assert terminal.getvalue().endswith("\x1b[0m\n")


def test_an_interrupt_ends_a_continuation_and_not_the_conversation(run, monkeypatch, capsys):
    def interrupted(*arguments, **options):
        steps = stream(*arguments, **options)
        yield next(steps)
        if not calls:
            calls.append(1)
            raise KeyboardInterrupt
        yield from steps

    calls: list[int] = []
    monkeypatch.setattr("minigpt.generation.sample.stream", interrupted)
    out = converse(run, monkeypatch, capsys, "The \ncab\n").out.split("\ncab")
    assert out[0].startswith("The ")
    assert len(out[0]) == len("The ") + 1
    assert len(out[1]) == 20 + 1


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


def on_a_terminal(monkeypatch, configuration, **environment) -> str:
    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stdout", terminal := Terminal())
    sample(configuration)
    return terminal.getvalue()


def test_no_escape_code_that_a_model_writes_reaches_a_terminal(tmp_path, monkeypatch, capsys):
    model = GPT.create(make_spec(vocab_size=256))
    save_checkpoint(tmp_path / "last", model, tokenizer=ByteTokenizer().to_json(), meta={})
    options = config(tmp_path / "last", temperature=50.0, max_new_tokens=200, start="a\x1b[2Jb\tc\n")
    shown = on_a_terminal(monkeypatch, options)
    assert shown.startswith("a\\x1b[2Jb\tc\n")
    assert "\x1b" not in shown
    coloured = on_a_terminal(monkeypatch, dataclasses.replace(options, colorize_output="rank"), COLORTERM="truecolor")
    assert re.sub(r"\x1b\[(0|48;2;\d+;\d+;\d+;38;2;\d+;\d+;\d+)m", "", coloured).count("\x1b") == 0


@pytest.mark.parametrize("kind", ["probability", "rank", "entropy"])
def test_colours_change_nothing_of_the_text_streamed_or_not(run, monkeypatch, capsys, kind):
    sample(config(run))
    plain = capsys.readouterr().out
    printed = []
    for options in ({}, {"stream": False}, {"stop": ("zzz",)}):
        shown = on_a_terminal(monkeypatch, config(run, colorize_output=kind, **options), TERM="xterm-256color")
        legend, text = shown.split("\n", 1)
        assert legend.startswith(f"{kind} of each token: \x1b[48;5;")
        printed.append(text)
        assert re.sub(r" (?=\x1b\[0m\n\x1b)|\x1b\[[0-9;]*m", "", text) == plain
    assert len(set(printed)) == 1


def test_a_text_is_coloured_by_one_forward(run, tmp_path, capsys, monkeypatch):
    calls, forward = [], GPT.forward
    monkeypatch.setattr(GPT, "forward", lambda self, *a, **k: calls.append(1) or forward(self, *a, **k))
    (tmp_path / "text.txt").write_text("The bad cab", encoding="utf-8")
    outputs = []
    for text in ("The bad cab", f"FILE:{tmp_path / 'text.txt'}"):
        sample(config(run, start="\n", max_new_tokens=200, colorize_text=text, colorize_output="entropy"))
        out, err = capsys.readouterr()
        assert re.match(r"10 tokens: \d\.\d{4} bits each", err)
        outputs.append(out)
    assert len(calls) == 2
    assert outputs[0] == outputs[1]
    text = outputs[0].split("\n")[1]
    assert re.sub(r"\[\d\||\]", "", text) == "The bad cab"
    with pytest.raises(UserError, match="colorize_text: expected at least two tokens"):
        sample(config(run, start="\n", max_new_tokens=200, colorize_text="a", colorize_output="entropy"))


def test_the_validation_split_of_its_dataset_can_be_coloured(tmp_path, capsys):
    (tmp_path / "text.txt").write_text("the cat sat on the mat. " * 40, encoding="utf-8")
    prepare(PrepareConfig(source=str(tmp_path / "text.txt"), name="cats", folder=str(tmp_path)))
    prepared = open_prepared("cats", tmp_path)
    model = GPT.create(make_spec(vocab_size=prepared.meta.vocab_size))
    save_checkpoint(tmp_path / "last", model, tokenizer=prepared.tokenizer.to_json(), meta={})
    options = {"start": "\n", "max_new_tokens": 200, "colorize_text": f"VAL:{tmp_path / 'cats'}"}
    capsys.readouterr()
    sample(config(tmp_path / "last", colorize_output="probability", **options))
    out = capsys.readouterr().out
    expected = prepared.tokenizer.decode(prepared.val.tokens[:17])
    assert re.sub(r"\[\d\||\]", "", out.split("\n", 1)[1]) == expected + "\n"
    other = CharTokenizer(CHARACTERS)
    save_checkpoint(tmp_path / "other", GPT.create(make_spec(vocab_size=16)), tokenizer=other.to_json(), meta={})
    with pytest.raises(UserError, match="has another tokenizer than the model"):
        sample(config(tmp_path / "other", colorize_output="probability", **options))


def test_heatmaps_go_into_a_new_folder_beside_the_run_and_overwrite_nothing(run, capsys):
    for number in (1, 2):
        sample(config(run, max_new_tokens=5, show_heatmaps=True, num_samples=number))
        folder = run.with_name(f"run-heatmaps-{number}")
        assert str(folder / "heatmaps.html") in capsys.readouterr().err
        pictures = {f"{place}-{kind}.png" for place in range(1, number + 1) for kind in ("heatmap", "bars")}
        assert {file.name for file in folder.iterdir()} == {"heatmaps.html", *pictures}
    with pytest.raises(UserError, match="is there already and is not overwritten"):
        sample(config(run, max_new_tokens=5, show_heatmaps=True, out=str(folder)))


NOTHING = {
    "colorize_text": ({"colorize_output": "rank", "colorize_text": "a"}, "num_samples", 2),
    "colorize_text, temperature": ({"colorize_output": "rank", "colorize_text": "a"}, "temperature", 0.0),
    "colorize_text alone": ({}, "colorize_text", "abc"),
    "interactive": ({"interactive": True}, "start", "a"),
    "interactive, stream": ({"interactive": True}, "stream", False),
    "interactive, heatmaps": ({"interactive": True}, "show_heatmaps", True),
    "prompts": ({"prompts": "FILE:x"}, "start", "a"),
    "prompts, stream": ({"prompts": "FILE:x"}, "stream", True),
    "samples, stream": ({"num_samples": 2}, "stream", True),
    "jsonl, stream": ({"format": "jsonl"}, "stream", True),
    "jsonl, colours": ({"format": "jsonl"}, "colorize_output", "rank"),
    "heatmaps, stream": ({"show_heatmaps": True}, "stream", True),
    "greedy": ({"temperature": 0}, "num_samples", 3),
    "greedy, top_k": ({"temperature": 0}, "top_k", 3),
    "out": ({}, "out", "here"),
    "empty stop": ({}, "stop", ("a", "")),
    "a name for a file of prompts": ({}, "prompts", "prompts.txt"),
    "tasks": ({"lm_eval_tasks": ("a",)}, "top_p", 0.5),
}


@pytest.mark.parametrize(("others", "option", "value"), NOTHING.values(), ids=NOTHING)
def test_an_option_that_would_do_nothing_is_refused_by_its_name(others, option, value):
    SampleConfig(checkpoint="x", **others)
    with pytest.raises(UserError, match=f"^{option}: "):
        SampleConfig(checkpoint="x", **others, **{option: value})


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("seed", "temperature=0 draws nothing"), ("stop_at_eot", "where the tokenizer has one"),
        ("top_p", "1 keeps all"), ("min_p", "0 keeps all"), ("repetition_penalty", "1 is none"),
    ],
)  # fmt: skip
def test_what_may_do_nothing_and_is_taken_all_the_same_says_so(option, words):
    assert words in explanations(SampleConfig)[option]


def nanogpt(folder: Path) -> Path:
    """nanoGPT's out_dir: ckpt.pt, and the meta.pkl of its data."""
    folder.mkdir()
    characters = {chr(40 + i): i for i in range(nano.SIZES["vocab_size"])}
    meta = {"vocab_size": len(characters), "stoi": characters, "itos": {i: c for c, i in characters.items()}}
    (folder / "meta.pkl").write_bytes(pickle.dumps(meta))
    figures = {"iter_num": 250, "best_val_loss": torch.tensor(1.25), "config": {"dataset": "letters"}}
    torch.save({"model": nano.state_dict(nano.SIZES), "model_args": nano.SIZES, **figures}, folder / "ckpt.pt")
    return folder


def test_models_of_other_projects_are_sampled_as_they_lie(tmp_path, capsys):
    hugging_face = families.save(families.make("llama"), tmp_path / "llama")
    out_dir = nanogpt(tmp_path / "out")
    for path in (hugging_face, out_dir, out_dir / "ckpt.pt"):
        sample(config(path, start="ABC", format="jsonl", max_new_tokens=5))
        (found,) = lines(capsys)
        assert len(found["tokens"]) == 5


def cli(*arguments: str) -> subprocess.CompletedProcess:
    return python(ROOT / "sample.py", *arguments, cwd=ROOT)


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
