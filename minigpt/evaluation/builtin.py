"""Our own suite: four tasks made from the held-out part of the built-in text, so that small models can be told apart.

builtin_words   a word of a sentence, after what stands before it (as LAMBADA asks): accuracy, perplexity
builtin_choice  which of four words goes on: accuracy
builtin_pairs   a sentence against the same with one thing wrong (as BLiMP asks): accuracy
builtin_text    the text itself, passage by passage: bits per byte, perplexity by byte and by word

The questions follow from the text alone and are the same on every machine with the same Python. They and their task
files lie in a cache folder, for any other harness to read: ``--include_path``.
"""

from __future__ import annotations

import functools
import json
import os
import random
import re
import tempfile
from collections import Counter
from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import Any

from minigpt.data.recipe import load_recipe
from minigpt.files import Lock, replace_folder, sha256_of_text

SUITE = "builtin"
TASKS = ("builtin_words", "builtin_choice", "builtin_pairs", "builtin_text")
VERSION = 1
LOCK = ".lock"
HELD_OUT = 0.1
"""The part of the text that its recipe keeps for validation, from the end."""
CONTEXT = 96
"""Characters before a word, at most: what the smallest shipped models have room for."""
FIRST = 24
"""Characters that stand before a word at least."""
SHARE = 0.5
"""Of the words that could be asked for."""
WORD = re.compile(r"[A-Za-z]{2,}")
PROSE = re.compile(r"[A-Z][A-Za-z ,;'()\"*-]+\.")
SWAPS = {
    "is": "are", "are": "is", "was": "were", "were": "was", "has": "have", "have": "has", "does": "do", "do": "does",
    "a": "an", "an": "a", "this": "these", "these": "this", "that": "those",
}  # fmt: skip
"""Words of a pair of which only one agrees with what stands around it."""


def made() -> Path:
    """The folder with the suite's task files, made when it is not there yet.

    Raises UserError when this Python has no built-in text.
    """
    text = load_recipe("pydocs").documents()[0]
    cut = int(len(text) * (1 - HELD_OUT))
    questions = {
        "builtin_words": list(words(text[:cut], text[cut:])),
        "builtin_choice": list(choices(text[:cut], text[cut:])),
        "builtin_pairs": list(pairs(text[cut:])),
        "builtin_text": [{"text": passage} for passage in passages(text[cut:])],
    }
    lines = {f"{name}.jsonl": "".join(json.dumps(each) + "\n" for each in rows) for name, rows in questions.items()}
    folder = cache_folder() / f"builtin-{sha256_of_text(json.dumps([VERSION, SHAPES, lines]))[:16]}"
    files = lines | {f"{name}.yaml": json.dumps({"task": name} | SHAPES[name] | _data(folder, name)) for name in TASKS}
    files[f"{SUITE}.yaml"] = json.dumps({"group": SUITE, "task": list(TASKS), "metadata": {"version": VERSION}})
    with Lock(folder.parent / LOCK, busy=lambda holder: None):  # another process makes the same: wait
        if not all((folder / name).is_file() for name in files):
            replace_folder(folder, lambda new: _fill(new, files))
    return folder


def _fill(folder: Path, files: Mapping[str, str]) -> None:
    for name, content in files.items():
        (folder / name).write_text(content, encoding="utf-8")


def cache_folder() -> Path:
    """Where what can be made again is kept: XDG_CACHE_HOME, or .cache of the home folder; where that cannot be written,
    a folder of this process alone."""
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "minigpt" / "evaluate"
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except (OSError, RuntimeError):  # no home, or none to write to
        return _own_folder()


@functools.cache
def _own_folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="minigpt-evaluate-"))


SHAPES: dict[str, dict[str, Any]] = {
    "builtin_words": {
        "output_type": "loglikelihood",
        "doc_to_text": "{{context}}",
        "doc_to_target": "{{' ' + word}}",
        "metric_list": [
            {"metric": "acc", "aggregation": "mean", "higher_is_better": True},
            {"metric": "perplexity", "aggregation": "perplexity", "higher_is_better": False},
        ],
    },
    "builtin_choice": {
        "output_type": "multiple_choice",
        "doc_to_text": "{{context}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "{{answer}}",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    },
    "builtin_pairs": {
        "output_type": "multiple_choice",
        "doc_to_text": "",
        "doc_to_choice": "{{[good, bad]}}",
        "doc_to_target": 0,
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    },
    "builtin_text": {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{text}}",
        "metric_list": [{"metric": name} for name in ("bits_per_byte", "byte_perplexity", "word_perplexity")],
    },
}
"""What each task asks, as the harness says it."""


def _data(folder: Path, name: str) -> dict[str, Any]:
    return {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(folder / f"{name}.jsonl")}},
        "test_split": "test",
        "target_delimiter": " ",
        "num_fewshot": 0,
        "metadata": {"version": VERSION},
    }


def passages(text: str, longest: int = 600) -> list[str]:
    """The text in pieces of whole paragraphs, each up to about so many characters."""
    pieces: list[str] = []
    for paragraph in filter(str.strip, text.split("\n\n")[1:]):
        if pieces and len(pieces[-1]) + len(paragraph) < longest:
            pieces[-1] += "\n\n" + paragraph
        else:
            pieces.append(paragraph)
    return pieces


def sentences(text: str) -> Iterator[str]:
    """Sentences of prose, on one line each, without code; each once."""
    seen = set()
    for paragraph in text.split("\n\n")[1:]:  # the first one was cut in two
        line = " ".join(paragraph.split())
        for sentence in re.findall(r"[A-Z][^.]*\.(?= |$)", line):
            if 40 <= len(sentence) <= 240 and PROSE.fullmatch(sentence) and sentence not in seen:
                seen.add(sentence)
                yield sentence


def _known(text: str, least: int = 3) -> Counter[str]:
    """The words a model may have learned, and how often they stand there."""
    counted = Counter(WORD.findall(text))
    return Counter({word: count for word, count in counted.items() if count >= least})


def _before(sentence: str, end: int) -> str:
    """What stands before a word, from the beginning of a word on."""
    start = max(0, end - CONTEXT)
    if start:
        start = sentence.index(" ", start) + 1
    return sentence[start:end].rstrip()


def words(train: str, held_out: str) -> Iterator[dict[str, Any]]:
    """Words of each sentence that a model may know, after what stands before them."""
    known = _known(train)
    for sentence in sentences(held_out):
        draw = random.Random(sentence)
        for match in _asked(sentence, known):
            if draw.random() < SHARE:
                yield {"context": _before(sentence, match.start()), "word": match[0]}


def _asked(sentence: str, known: Container[str]) -> Iterator[re.Match[str]]:
    """Where whole, known words stand that have something before them."""
    for match in WORD.finditer(sentence):
        whole = sentence[match.start() - 1] == " " and sentence[match.end()] in " .,;"
        if match.start() >= FIRST and whole and match[0] in known:
            yield match


def choices(train: str, held_out: str, options: int = 4) -> Iterator[dict[str, Any]]:
    """A word of each sentence among others that are about as frequent."""
    ranked = [word for word, _ in sorted(_known(train).items(), key=lambda item: (-item[1], item[0]))]
    place = {word: rank for rank, word in enumerate(ranked)}
    for sentence in sentences(held_out):
        draw = random.Random(sentence)
        for match in _asked(sentence, place):
            if draw.random() >= SHARE:
                continue
            near = ranked[max(0, place[match[0]] - 40) : place[match[0]] + 40]
            others = draw.sample([word for word in near if word != match[0]], options - 1)
            answer = draw.randrange(options)
            others.insert(answer, match[0])
            yield {"context": _before(sentence, match.start()), "choices": others, "answer": answer}


def pairs(held_out: str) -> Iterator[dict[str, Any]]:
    """Each sentence with one thing wrong, once for every kind that it has a place for: a word that does not agree, two
    words in the wrong order, two letters in the wrong order."""
    for sentence in sentences(held_out):
        draw = random.Random(sentence)
        parts = sentence.split(" ")
        for kind, wrong in (("agreement", _disagreeing), ("order", _reordered), ("spelling", _misspelt)):
            bad = wrong(list(parts), draw)
            if bad is not None and bad != parts:
                yield {"good": _cut(parts, bad)[0], "bad": _cut(parts, bad)[1], "kind": kind}


def _cut(good: list[str], bad: list[str]) -> tuple[str, str]:
    """Both up to a few words after the place where they part, and of the same beginning."""
    first = next(i for i, (a, b) in enumerate(zip(good, bad, strict=True)) if a != b)
    start, end = max(0, first - 8), first + 6
    return " ".join(good[start:end]), " ".join(bad[start:end])


def _disagreeing(parts: list[str], draw: random.Random) -> list[str] | None:
    places = [i for i, part in enumerate(parts) if part in SWAPS]
    if not places:
        return None
    chosen = draw.choice(places)
    return [*parts[:chosen], SWAPS[parts[chosen]], *parts[chosen + 1 :]]


def _reordered(parts: list[str], draw: random.Random) -> list[str] | None:
    places = [i for i in range(1, len(parts) - 2) if WORD.fullmatch(parts[i]) and WORD.fullmatch(parts[i + 1])]
    if not places:
        return None
    i = draw.choice(places)
    return [*parts[:i], parts[i + 1], parts[i], *parts[i + 2 :]]


def _misspelt(parts: list[str], draw: random.Random) -> list[str] | None:
    places = [i for i in range(1, len(parts)) if WORD.fullmatch(parts[i]) and len(parts[i]) > 4]
    if not places:
        return None
    i = draw.choice(places)
    letter = draw.randrange(1, len(parts[i]) - 2)
    word = parts[i]
    return [*parts[:i], word[:letter] + word[letter + 1] + word[letter] + word[letter + 2 :], *parts[i + 1 :]]
