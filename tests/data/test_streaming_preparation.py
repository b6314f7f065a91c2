"""Long texts: shards, several processes, documents, and what ends a preparation before its time."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from minigpt.data import encoding, encoding_pool, survey, text_files, work_folder, worker_pool
from minigpt.data.bpe import train_bpe
from minigpt.data.dataset_folder import open_prepared
from minigpt.data.document import Document
from minigpt.data.encoding import Batch, Cut, batches
from minigpt.data.hf_files import to_huggingface
from minigpt.data.hf_tokenizer import HuggingFaceTokenizer
from minigpt.data.preparation import PrepareConfig, prepare
from minigpt.data.tokenizers import ByteTokenizer, CharTokenizer
from minigpt.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
SMALL_STEPS = """
import sys
from minigpt.data import encoding, preparation, text_files, work_folder
encoding.BATCH, text_files.PART, text_files.BLOCK, work_folder.SHARD = 1 << 12, 1 << 12, 1 << 13, 1 << 14
preparation.QUIET_SECONDS = 0.0
sys.argv[0] = "data/prepare.py"
from minigpt.cli.prepare import main
main()
"""


@pytest.fixture
def small_steps(monkeypatch):
    """Sizes at which a few kilobytes are a long text."""
    monkeypatch.setattr(encoding, "BATCH", 300)
    monkeypatch.setattr(text_files, "PART", 500)
    monkeypatch.setattr(text_files, "BLOCK", 700)
    monkeypatch.setattr(work_folder, "SHARD", 2000)


@pytest.fixture
def lines(tmp_path):
    """A .jsonl file of 300 documents of 9 to 200 characters, ten of them empty."""
    texts = [f"Line {i}: " + "naïve façades cost 5 €. " * (i % 9) for i in range(300)]
    texts[::30] = [""] * 10
    path = tmp_path / "lines.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path, [text for text in texts if text]


def prepared(tmp_path, name="x", say=lambda line: None, **keys):
    return open_prepared(name, prepare(PrepareConfig(name=name, folder=str(tmp_path / "data"), **keys), say).parent)


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "meta.json"}


@pytest.mark.parametrize("tokenizer", ["char", "byte", "bpe"])
def test_what_is_written_depends_neither_on_workers_nor_on_batches(lines, tmp_path, tokenizer, monkeypatch):
    one = prepared(tmp_path, "one", source=str(lines[0]), tokenizer=tokenizer, workers=1)
    monkeypatch.setattr(encoding, "BATCH", 700)
    three = prepared(tmp_path, "three", source=str(lines[0]), tokenizer=tokenizer, workers=3)
    assert files(one.path) == files(three.path)
    assert one.meta.hash == three.meta.hash


def test_a_long_text_in_small_steps_is_the_same_tokens(small_steps, make, verse):
    path = make(text=verse * 3, tokenizer="byte")
    data = open_prepared("verse", path.parent)
    assert data.tokenizer.decode(np.concatenate([data.train.tokens, data.val.tokens])) == verse * 3
    assert (data.meta.train.documents, data.meta.val.documents) == (1, 1)
    assert (data.document_starts("train").tolist(), data.document_starts("val").tolist()) == ([0], [0])


@pytest.mark.parametrize("tokenizer", ["char", "bpe"])
def test_documents_can_be_told_apart_afterwards(lines, tmp_path, small_steps, tokenizer):
    data = prepared(tmp_path, source=str(lines[0]), tokenizer=tokenizer)
    end = "\n" if tokenizer == "char" else "<|endoftext|>"
    found = []
    for split in ("train", "val"):
        tokens, starts = getattr(data, split).tokens, data.document_starts(split)
        assert len(starts) == getattr(data.meta, split).documents
        found += [data.tokenizer.decode(part) for part in np.split(tokens, starts[1:])]
    assert found == [text + end for text in lines[1]]  # the cut is moved to the end of a document: none is in both


def test_a_vocabulary_of_hugging_faces_gets_a_long_text_in_pieces_and_gives_the_same_tokens(make, verse, monkeypatch):
    content = to_huggingface(train_bpe([verse], 280))
    tokenizer = HuggingFaceTokenizer(content)
    whole = encoding.Encoder(tokenizer, "uint16", True)(Batch(0, [verse], [True], ["a"]))
    monkeypatch.setattr(HuggingFaceTokenizer, "at_once", 200)
    assert encoding.Encoder(tokenizer, "uint16", True)(Batch(0, [verse], [True], ["a"])) == whole


def test_empty_documents_are_counted_aloud(lines, tmp_path):
    said = []
    prepared(tmp_path, source=str(lines[0]), say=said.append)
    assert "  10 empty document(s) left out" in said
    assert "x: " in said[0]
    assert "290 document(s)" in said[0]


def test_the_cut_moves_to_the_end_of_a_document_only_where_that_is_near():
    cut = Cut.of(1000, 0.1)
    assert cut.within(895, 10, ends=True) == 10
    assert cut.within(895, 10, ends=False) == 5
    assert cut.within(800, 150, ends=True) == 100
    assert cut.within(0, 900, ends=True) == 900
    assert cut.within(900, 10, ends=True) == 0


def test_the_end_of_a_document_whose_last_part_is_empty_is_kept():
    parts = [Document("one", "a", ends=False), Document("", "a"), Document("two", "b"), Document("", "c")]
    (batch,) = batches(parts, Cut(100, 100), newline=True)
    assert "".join(batch.texts) == "one\ntwo\n"
    assert sum(batch.ends) == 2


def test_a_vocabulary_is_learned_from_train_text_spread_over_all_of_it(tmp_path, monkeypatch):
    monkeypatch.setattr(survey, "UNIT", 50)
    monkeypatch.setattr(survey, "SAMPLE", 500)
    texts = ["abcdefgh " * 500, "ijklmnop " * 450, "qrstuvwx " * 50]
    found = survey.survey([Document(t, "") for t in texts], sample=True, seen=lambda n: None)
    kept = found.sample_before(9000 - 450)
    assert 500 <= sum(map(len, kept)) <= 1000
    assert {text[:200].count("a") > 0 for text in kept} == {True, False}
    assert not any("q" in text for text in kept)


def command(tmp_path, *arguments):
    return [sys.executable, "-c", SMALL_STEPS, f"folder={tmp_path}/data", *arguments]


def test_a_preparation_that_is_killed_goes_on_after_its_last_shard(tmp_path, verse):
    source, work = tmp_path / "long.txt", tmp_path / "data" / ".long.preparing"
    source.write_text(verse * 100)
    arguments = (f"source={source}", "name=long", "tokenizer=bpe", "vocab_size=280")
    process = subprocess.Popen(command(tmp_path, *arguments), cwd=ROOT, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (work / "progress.json").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not list((tmp_path / "data" / "long").iterdir())
    done = json.loads((work / "progress.json").read_text())
    with (work / "train.bin").open("ab") as torn:  # what was written after the last shard does not count
        torn.write(b"torn")
    again = subprocess.run(command(tmp_path, *arguments), cwd=ROOT, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert f"goes on where an interrupted preparation of it stopped, after {done['train']['tokens']:,}" in again.stdout
    assert not work.exists()
    subprocess.run(command(tmp_path / "whole", *arguments), cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
    assert files(tmp_path / "data" / "long") == files(tmp_path / "whole" / "data" / "long")


def test_what_an_interrupted_preparation_of_other_text_left_is_not_gone_on_with(tmp_path, small_steps, make, verse):
    work = tmp_path / "data" / ".verse.preparing"
    left = work_folder.WorkFolder(work, {"source": "other"}, "uint16")
    with left:
        left.add(encoding.Encoder(ByteTokenizer(), "uint16", False)(Batch(0, ["z" * 3000], [True], ["a"])))
    assert json.loads((work / "progress.json").read_text())["batches"] == 1
    data = open_prepared("verse", make(tokenizer="byte").parent)
    assert data.tokenizer.decode(data.train.tokens)[:9] == verse[:9]
    assert not work.exists()


@pytest.mark.parametrize("moved", range(7))
def test_a_publication_that_is_killed_is_ended_by_the_next_preparation(make, monkeypatch, moved):
    make()
    expected = files(make())
    real, left = os.replace, iter(range(moved))

    def replace(source, target):
        if "preparing" in str(source) and str(target).find("preparing") < 0 and next(left, None) is None:
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    text = "other text " * 100
    if moved < 6:
        with pytest.raises(KeyboardInterrupt):
            make(text=text, overwrite=True)
    else:
        make(text=text, overwrite=True)
    monkeypatch.undo()
    path = make(text=text)  # the same, so that nothing is left to do
    assert files(path) != expected
    assert open_prepared("verse", path.parent).tokenizer.decode(open_prepared("verse", path.parent).val.tokens) in text
    assert not (path.parent / ".verse.preparing").exists()


def test_a_full_disk_is_said_and_the_rest_is_written_when_there_is_room(tmp_path, verse):
    (tmp_path / "long.txt").write_text(verse * 100)
    arguments = command(tmp_path, f"source={tmp_path}/long.txt", "name=long", "tokenizer=byte")
    limit = 300_000
    full = subprocess.run(
        ["bash", "-c", f'ulimit -f {limit // 1024}; exec "$@"', "bash", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert full.returncode == 2
    assert "disk full" in full.stderr
    assert len(full.stderr.splitlines()) <= 2
    again = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert "goes on where" in again.stdout
    data = open_prepared("long", tmp_path / "data")
    assert data.meta.train.bytes + data.meta.val.bytes == len((verse * 100).encode())


def test_a_source_that_changes_while_it_is_prepared_is_an_error(make, monkeypatch, tmp_path):
    real = survey.survey

    def then_changed(documents, **keys):
        found = real(documents, **keys)
        (tmp_path / "verse.txt").write_text("something else " * 184)
        return found

    monkeypatch.setattr("minigpt.data.preparation.survey", then_changed)
    with pytest.raises(UserError, match="was changed while it was prepared"):
        make(tokenizer="byte")
    assert not list((tmp_path / "data").iterdir())


def test_text_outside_a_given_vocabulary_is_named_with_its_line_also_from_a_worker(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "ab"}\n{"text": "ba☃"}\n')
    (tmp_path / "tokenizer.json").write_text(json.dumps(CharTokenizer("\nab").to_json()))
    for workers in (1, 2):
        with pytest.raises(UserError, match=r"a\.jsonl:2: tokenizer: character '☃'"):
            prepared(
                tmp_path, source=str(tmp_path / "a.jsonl"), tokenizer=f"{tmp_path}/tokenizer.json", workers=workers
            )
    assert not list((tmp_path / "data").iterdir())


def test_a_worker_that_is_killed_is_an_error_with_the_way_out(monkeypatch):
    started = []
    real = worker_pool._started
    monkeypatch.setattr(worker_pool, "_started", lambda module: started.append(real(module)) or started[-1])

    def some():
        for i in range(50):
            if i == 5:
                started[0].kill()
            yield Batch(0, ["text"], [True], ["a"])

    with pytest.raises(UserError, match=r"a worker process ended.*\n.*goes on where it stopped"):
        list(encoding_pool.encoded(some(), ByteTokenizer(), "uint16", False, 2))
    assert all(process.poll() is not None for process in started)


def test_lone_surrogates_of_json_reach_a_worker(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "a\\ud800b"}\n{"text": "cc"}\n')
    data = prepared(tmp_path, source=str(tmp_path / "a.jsonl"), tokenizer="byte", workers=2, val_fraction=0.4)
    assert data.tokenizer.decode(data.train.tokens) == "a?b\n"
    chars = prepared(tmp_path, "chars", source=str(tmp_path / "a.jsonl"), workers=2, val_fraction=0.4)
    assert chars.tokenizer.decode(chars.train.tokens) == "a\ud800b\n"


def test_progress_is_said(tmp_path, verse):
    (tmp_path / "a.txt").write_text(verse * 10)
    done = subprocess.run(
        command(tmp_path, f"source={tmp_path}/a.txt", "name=x", "tokenizer=byte"),
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert "encoded 0 million characters of 0, 0 s left (" in done.stdout
