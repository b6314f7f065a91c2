"""Heatmaps: a page in which nothing of a text acts, and pictures that can be opened."""

from __future__ import annotations

import html
import math
import re

import pytest
import torch

from minigpt.data.tokenizers import ByteTokenizer, CharTokenizer
from minigpt.errors import UserError
from minigpt.generation import heatmaps
from minigpt.generation.growing import GrowingText
from minigpt.generation.heatmaps import Shown, label, new_folder, percent, write
from minigpt.generation.scoring import score

HOSTILE = "<script>alert(1)</script>\"'&${x}$\\frac$\x1b[2J\u202e{{ 7*7 }}日\U0001f600\n"


def shown(text: str, tokenizer, title: str = "a text", seed: int = 0) -> Shown:
    tokens = tokenizer.encode(text).tolist()
    logits = 3 * torch.randn(len(tokens), tokenizer.vocab_size, generator=torch.Generator().manual_seed(seed))
    growing = GrowingText(tokenizer)
    for token in tokens:
        growing.add(token)
    known = score(logits, torch.tensor(tokens), alternatives=heatmaps.TOP)
    return Shown(title, f"before {title}", tokens, tuple(growing.pieces()), known)


@pytest.mark.parametrize("tokenizer", [CharTokenizer("".join(sorted(set(HOSTILE)))), ByteTokenizer()], ids=["c", "b"])
def test_nothing_of_a_text_acts_in_the_page_and_it_needs_no_other_file(tokenizer):
    one = shown(HOSTILE, tokenizer, title=HOSTILE)
    page = heatmaps.page([one], [list(heatmaps.choices(one, tokenizer))], "entropy")
    assert "<script" not in page
    assert "\x1b" not in page
    assert "\u202e" not in page
    assert not re.search(r"(src|href|url|@import|\bon\w+)\s*[=(]", re.sub(r'"[^"]*"', '""', page))
    text = "".join(re.findall(r"<span style=[^>]* title=[^>]*>(.*?)</span>", page, flags=re.DOTALL))
    assert html.unescape(text) == HOSTILE.replace("\x1b", "\\x1b").replace("\u202e", "\\u202e")


def test_the_page_has_each_step_with_its_likeliest_and_the_one_taken(tmp_path):
    tokenizer = CharTokenizer("abcdefghijklmnopqrstuvwxyz ")
    one = shown("some text", tokenizer)
    write(tmp_path, [one], tokenizer)
    page = (tmp_path / "heatmaps.html").read_text(encoding="utf-8")
    rows = re.findall(r"<tr><td>(\d+)</td>(.*?)</tr>", page, flags=re.DOTALL)
    assert [int(number) for number, _ in rows] == list(range(1, 10))
    for step, (_, row) in enumerate(rows):
        cells = re.findall(r'<td class="cell( chosen)?"[^>]*title="(.*?)"', row)
        likeliest = [label(token, tokenizer) for token in one.scores.top[step].tolist()]
        assert [text for _, text in cells][: heatmaps.TOP] == likeliest
        assert [text for chosen, text in cells if chosen] == [label(one.tokens[step], tokenizer)]
        assert percent(math.exp(one.scores.logprob[step])) in row


def test_every_text_has_pictures_and_a_long_one_several(tmp_path, monkeypatch):
    monkeypatch.setattr("minigpt.generation.pictures.STEPS", 8)
    monkeypatch.setattr("minigpt.generation.pictures.PICTURED", 16)
    tokenizer = ByteTokenizer()
    files = write(tmp_path, [shown("ab", tokenizer), shown(HOSTILE[-12:], tokenizer)], tokenizer)
    names = ["1-heatmap", "1-bars", "2-heatmap", "2-bars", "2-heatmap-2", "2-bars-2"]
    assert [file.name for file in files] == ["heatmaps.html", *(f"{name}.png" for name in names)]
    for file in files[1:]:
        assert file.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_labels_show_spaces_and_tokens_without_text():
    assert label(0x20, ByteTokenizer()) == "\N{OPEN BOX}"
    assert label(0x0A, ByteTokenizer()) == "\\n"
    assert label(0xF0, ByteTokenizer()) == "#240"


def test_the_folder_is_new_and_beside_the_run(tmp_path):
    run = tmp_path / "run"
    (run / "checkpoint" / "best").mkdir(parents=True)
    assert new_folder(None, run / "checkpoint" / "best") == tmp_path / "run-heatmaps-1"
    assert new_folder(None, run / "checkpoint" / "best") == tmp_path / "run-heatmaps-2"
    assert new_folder(None, run) == tmp_path / "run-heatmaps-3"
    assert new_folder(str(tmp_path / "run-heatmaps-1"), run) == tmp_path / "run-heatmaps-1"  # empty
    for taken in (run, tmp_path / "file"):
        (tmp_path / "file").touch()
        with pytest.raises(UserError, match="is not overwritten"):
            new_folder(str(taken), run)
    with pytest.raises(UserError, match="could not be made"):
        new_folder(str(tmp_path / "file" / "below"), run)
