import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from minigpt.data import tokenizers
from minigpt.data.dataset_folder import open_prepared
from minigpt.data.preparation import PrepareConfig, prepare
from minigpt.errors import UserError
from tests.warm import python

ROOT = Path(__file__).resolve().parents[2]
FILES = ["meta.json", "tokenizer.json", "train.bin", "train.idx", "val.bin", "val.idx"]


def run(*arguments, **environment):
    """data/prepare.py as a person runs it, from the project's root."""
    return python("data/prepare.py", *arguments, cwd=ROOT, env=environment, timeout=60)


def options_of(kind, ranks_file):
    return {"tokenizer": kind} | {"tiktoken": {"encoding": str(ranks_file)}, "bpe": {"vocab_size": 300}}.get(kind, {})


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("kind", ["char", "byte", "tiktoken", "bpe"])
def test_the_files_hold_the_text_and_meta_records_what_they_are(make, verse, kind, ranks_file):
    path = make(**options_of(kind, ranks_file))
    meta = json.loads((path / "meta.json").read_text())
    tokenizer = tokenizers.from_json(json.loads((path / "tokenizer.json").read_text()))
    cut = int(len(verse) * 0.9)
    for split, text in (("train", verse[:cut]), ("val", verse[cut:])):
        data = (path / f"{split}.bin").read_bytes()
        tokens = np.frombuffer(data, dtype=meta["dtype"])
        assert tokenizer.decode(tokens) == text
        assert meta[split] == {
            "tokens": len(tokens),
            "bytes": len(text.encode()),
            "sha256": hashlib.sha256(data).hexdigest(),
            "documents": 1,
        }
    assert meta["tokenizer_hash"] == tokenizer.hash
    assert meta["vocab_size"] == tokenizer.vocab_size
    assert meta["dtype"] == "uint16"
    assert "first 0.9 of all characters" in meta["split"]
    assert sorted(content(path)) == FILES


def test_a_vocabulary_beyond_65535_is_stored_as_uint32(make):
    text = "".join(chr(i) for i in range(0x10000, 0x10000 + 66_000)) * 2
    path = make(text=text, val_fraction=0.5)
    prepared = open_prepared("verse", path.parent)
    assert prepared.meta.dtype == "uint32"
    assert prepared.train.tokens.dtype == np.uint32
    assert prepared.tokenizer.decode(prepared.val.tokens) == text[66_000:]


def test_preparing_the_same_again_changes_nothing(make):
    path = make()
    before, moment = content(path), (path / "meta.json").stat().st_mtime_ns
    make()
    assert content(path) == before
    assert (path / "meta.json").stat().st_mtime_ns == moment


@pytest.mark.parametrize(
    "change", [{"text": "other text " * 100}, {"tokenizer": "byte"}, {"val_fraction": 0.5}], ids=lambda c: next(iter(c))
)
def test_a_prepared_dataset_that_differs_is_replaced_only_when_asked(make, change):
    path = make()
    before = content(path)
    with pytest.raises(UserError, match=r"already there, prepared with tokenizer=char.*\n.*overwrite=true"):
        make(**change)
    assert content(path) == before
    make(**change, overwrite=True)
    assert content(path) != before
    open_prepared("verse", path.parent)


def test_another_vocabulary_in_a_file_of_the_same_name_is_not_taken_for_the_same(make, ranks_file, tmp_path):
    path = make(tokenizer="tiktoken", encoding=str(ranks_file))
    lines = ranks_file.read_text().splitlines(keepends=True)
    other = tmp_path / ranks_file.name
    other.write_text("".join(lines[:-1]))
    make(tokenizer="tiktoken", encoding=str(ranks_file))
    with pytest.raises(UserError, match="already there"):
        make(tokenizer="tiktoken", encoding=str(other))
    assert open_prepared("verse", path.parent).meta.vocab_size == 289


@pytest.mark.parametrize("asked", [259, 4096])
def test_a_vocabulary_smaller_than_asked_for_is_said(tmp_path, asked):
    (tmp_path / "short.txt").write_text("ab ab " * 100)
    said = []
    keys = {"source": str(tmp_path / "short.txt"), "name": "short", "folder": str(tmp_path), "tokenizer": "bpe"}
    prepare(PrepareConfig(**keys, vocab_size=asked), say=said.append)
    (line,) = (line for line in said if "vocabulary of" in line)
    assert ("no further pair" in line) == (f", of {asked:,}" in line) == (asked == 4096)


def test_files_of_another_tool_are_not_overwritten(make, tmp_path):
    (tmp_path / "data" / "verse").mkdir(parents=True)
    (tmp_path / "data" / "verse" / "train.bin").write_bytes(b"precious")
    with pytest.raises(UserError, match=r"nothing was changed"):
        make()
    assert content(tmp_path / "data" / "verse") == {"train.bin": b"precious"}


def test_a_damaged_dataset_is_not_taken_for_prepared(make):
    path = make()
    (path / "train.bin").write_bytes((path / "train.bin").read_bytes()[:-2])
    with pytest.raises(UserError, match=r"truncated"):
        make()


@pytest.mark.parametrize("text", ["a", "ab", "abc"])
def test_text_too_short_for_two_splits_is_an_error_and_leaves_nothing(make, tmp_path, text):
    with pytest.raises(UserError, match=r"too short"):
        make(text=text)
    assert not (tmp_path / "data" / "verse").exists()


def test_documents_are_separated_by_the_end_of_text_token_or_a_newline(make, tmp_path, ranks_file):
    for name in "abc":
        (tmp_path / f"{name}.md").write_text(name * 20)
    for kind, text in (("tiktoken", "{}<|endoftext|>"), ("char", "{}\n")):
        path = make(name=kind, source=f"{tmp_path}/*.md", val_fraction=0.4, **options_of(kind, ranks_file))
        prepared = open_prepared(kind, path.parent)
        joined = prepared.tokenizer.decode(prepared.train.tokens) + prepared.tokenizer.decode(prepared.val.tokens)
        assert joined == "".join(text.format(name * 20) for name in "abc")


def test_nanogpts_split_of_tinyshakespeare_is_reproduced(make, tinyshakespeare):
    path = make(name=None, dataset="shakespeare_char", source=str(tinyshakespeare))
    meta = json.loads((path / "meta.json").read_text())
    assert (meta["vocab_size"], meta["train"]["tokens"], meta["val"]["tokens"]) == (65, 1_003_854, 111_540)


def test_pydocs_is_prepared_offline_with_96_characters(tmp_path):
    path = prepare(PrepareConfig(dataset="pydocs", folder=str(tmp_path)), say=lambda line: None)
    prepared = open_prepared("pydocs", tmp_path)
    text = prepared.tokenizer.decode(prepared.train.tokens)
    assert prepared.meta.vocab_size == 96
    assert prepared.meta.train.tokens > 250_000
    assert 'The "assert" statement\n' in text
    assert text.isascii()
    assert (path / "val.bin").stat().st_size > 2 * 25_000


def test_pydocs_val_text_is_not_quoted_in_its_train_text(tmp_path):
    prepare(PrepareConfig(dataset="pydocs", folder=str(tmp_path)), say=lambda line: None)
    prepared = open_prepared("pydocs", tmp_path)
    train, val = (prepared.tokenizer.decode(split) for split in (prepared.train.tokens, prepared.val.tokens))
    places = range(0, len(val) - 60, 60)
    assert sum(val[i : i + 60] in train for i in places) < 0.02 * len(places)


def test_the_template_is_a_dataset_that_works(tmp_path):
    prepare(PrepareConfig(dataset="template", folder=str(tmp_path)), say=lambda line: None)
    assert open_prepared("template", tmp_path).meta.vocab_size == 14


def test_a_text_can_be_prepared_in_the_tokens_of_another_dataset(make, tmp_path):
    first = make(tokenizer="char")
    words = (first / "tokenizer.json").read_bytes()
    (tmp_path / "fewer.txt").write_text(json.loads(words)["characters"][3:] * 30, encoding="utf-8")
    keys = {"source": str(tmp_path / "fewer.txt"), "name": "fewer", "folder": str(tmp_path)}
    second = prepare(PrepareConfig(**keys, tokenizer_of=str(first)), say=lambda line: None)
    assert (second / "tokenizer.json").read_bytes() == words
    before = content(second)
    prepare(PrepareConfig(**keys, tokenizer_of=str(first)), say=lambda line: None)
    assert content(second) == before
    with pytest.raises(UserError, match="already there"):
        prepare(PrepareConfig(**keys), say=lambda line: None)
    with pytest.raises(UserError, match="tokenizer_of: brings tokenizer and encoding along"):
        PrepareConfig(**keys, tokenizer_of=str(first), tokenizer="byte")
    (tmp_path / "more.txt").write_text("\u2603" * 30, encoding="utf-8")
    with pytest.raises(UserError, match="\u2603"):
        prepare(PrepareConfig(**keys | {"source": str(tmp_path / "more.txt"), "name": "more"}, tokenizer_of=str(first)))
    assert not (tmp_path / "more").exists()


def test_a_text_can_be_prepared_in_the_tokens_of_a_file(make, verse, tmp_path):
    from minigpt.data.hf_files import to_huggingface

    own = make(tokenizer="bpe", vocab_size=280)
    assert make(name="again", tokenizer=str(own / "tokenizer.json")).joinpath("train.bin").read_bytes() == (
        (own / "train.bin").read_bytes()
    )
    theirs = tmp_path / "hf" / "tokenizer.json"
    theirs.parent.mkdir()
    content = to_huggingface(open_prepared("verse", own.parent).tokenizer)
    content["added_tokens"][0]["content"] = "<end>"  # so that it is not known for one of ours
    content["model"]["vocab"]["<end>"] = content["model"]["vocab"].pop("<|endoftext|>")
    theirs.write_text(json.dumps(content))
    prepared = open_prepared("hf", make(name="hf", tokenizer=str(theirs.parent)).parent)
    assert prepared.meta.tokenizer == "huggingface"
    assert prepared.meta.train.bytes + prepared.meta.val.bytes == len(verse.encode())
    assert (prepared.path / "train.bin").read_bytes() == (own / "train.bin").read_bytes()


def test_two_processes_that_prepare_at_once_both_succeed(tmp_path):
    command = [sys.executable, "data/prepare.py", "dataset=pydocs", f"folder={tmp_path}"]
    processes = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert sum("written to" in output for output in outputs) == 1
    open_prepared("pydocs", tmp_path)


def test_the_command_prepares_and_says_what_and_where(tmp_path, verse):
    (tmp_path / "verse.txt").write_text(verse)
    result = run(f"source={tmp_path}/verse.txt", "name=007", "val_fraction=0.2", f"folder={tmp_path}")
    assert (result.returncode, result.stderr) == (0, "")
    assert "2,760 characters" in result.stdout
    assert f"written to {tmp_path}/007" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["datset=pydocs"], "unknown key 'datset'. Did you mean 'dataset'?"),
        (["dataset=pydoc"], "Did you mean 'pydocs'?"),
        (["pydoc"], "Did you mean 'pydocs'?"),
        (["source=nowhere.txt", "name=x"], "source: nowhere.txt does not exist"),
        (["source=data"], "name=<new>"),
        (["name=x"], "source=<file, folder or glob>"),
        (["source=minigpt/errors.py", "name=../x"], "dataset name '../x'"),
        (["source=minigpt/errors.py", "name=pydocs"], "has a recipe of its own"),
        (["dataset=pydocs", "name=x"], "leave one of the two out"),
        (["dataset=pydocs", "tokenizer=chars"], "Did you mean 'char'?"),
        (["dataset=pydocs", "tokenizer=none/tokenizer.json"], "none/tokenizer.json: could not be read"),
        (
            ["source=minigpt/errors.py", "name=x", "tokenizer=byte", "encoding=gpt2"],
            "encoding: is for tokenizer=tiktoken",
        ),
        (["source=minigpt/errors.py", "name=x", "encoding=gpt2"], "encoding: is for tokenizer=tiktoken, not for char"),
        (["source=minigpt/errors.py", "name=x", "text_key=body"], "has no fields or columns"),
        (["dataset=pydocs", "text_key=body"], "text_key: is for a source with fields or columns"),
        (["dataset=pydocs", "workers=0"], "workers: 0 is out of range"),
        (["dataset=pydocs", "vocab_size=300"], "vocab_size: is for tokenizer=bpe"),
        (["dataset=pydocs", "tokenizer=bpe", "vocab_size=256"], "vocab_size: 256 is out of range, expected >= 257"),
        (["dataset=pydocs", "val_fraction=1"], "val_fraction: 1.0 is out of range"),
        (["dataset=pydocs", "val_fraction=half"], "val_fraction: expected a number"),
        (["dataset=pydocs", "overwrite=yes"], "overwrite: expected true or false"),
        (["dataset=pydocs", "dataset=template"], "dataset: given twice"),
        (["dataset=pydocs", "folder=/proc/nowhere"], "could not be written"),
    ],
)
def test_a_mistake_is_one_or_two_lines_without_traceback(arguments, message, capsys, monkeypatch):
    from minigpt.cli.prepare import main

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["prepare.py", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    output = capsys.readouterr()
    assert message in output.err
    assert "Traceback" not in output.err
    assert len(output.err.splitlines()) <= 2


def test_the_process_exits_with_2_for_a_mistake_and_0_for_help():
    wrong, asked, bare = run("datset=pydocs"), run("--help"), run()
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("datset: unknown key")
    assert asked.returncode == 0
    assert "pydocs, shakespeare_char, template" in asked.stdout
    assert bare.returncode == 2


def test_a_new_dataset_starts_as_a_copy_of_the_template(tmp_path):
    import shutil

    for folder in ("minigpt", "data", "conf"):
        shutil.copytree(
            ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("*.bin", "*.json", "__pycache__")
        )
    create = ["sh", str(tmp_path / "data/create_new_dataset.sh")]
    assert subprocess.run([*create, "sums"], stdout=subprocess.DEVNULL).returncode == 0
    again = subprocess.run([*create, "sums"], capture_output=True, text=True)
    assert again.returncode == 2
    assert "already there" in again.stderr
    assert subprocess.run([*create, "../up"], capture_output=True).returncode == 2
    assert "name: sums" in (tmp_path / "conf/data/sums.yaml").read_text()
    result = subprocess.run(
        [sys.executable, "data/prepare.py", "dataset=sums"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "data/sums/train.bin").stat().st_size > 100_000
