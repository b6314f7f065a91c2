import json
import subprocess
import sys
from pathlib import Path

import pytest

from minigpt.data import tokenizers
from minigpt.data.bpe import hf_pattern, train_bpe
from minigpt.data.tiktoken_bpe import EOT
from minigpt.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


def test_a_vocabulary_of_a_thousand_tokens_shortens_its_text_to_less_than_half(verse):
    tokenizer = train_bpe([verse], 300)
    assert tokenizer.vocab_size == 300
    assert len(tokenizer.encode(verse)) < 0.5 * len(verse)
    assert tokenizer.decode(tokenizer.encode(verse)) == verse


def test_every_text_can_be_expressed_and_no_text_becomes_the_end_of_text(verse):
    tokenizer = train_bpe([verse], 270)
    text = "漢字 \U0001f388 \0\x07 <|endoftext|>\r\n"
    tokens = tokenizer.encode(text)
    assert tokenizer.decode(tokens) == text
    assert tokenizer.token_bytes()[tokens].sum() == len(text.encode())
    assert tokenizer.eot_token == 269
    assert 269 not in tokens
    assert tokenizer.encode_marked(f"a{EOT}").tolist() == [97, 269]


def test_training_in_another_process_gives_the_same_vocabulary(verse):
    code = "import sys; from minigpt.data.bpe import train_bpe; print(train_bpe([sys.stdin.read()], 300).hash)"
    elsewhere = subprocess.run(
        [sys.executable, "-c", code], input=verse.encode(), cwd=ROOT, capture_output=True, check=True
    )
    assert elsewhere.stdout.decode().strip() == train_bpe([verse], 300).hash


def test_a_text_with_nothing_left_to_merge_gives_a_smaller_vocabulary():
    assert train_bpe(["ab"], 4096).vocab_size == 258
    assert train_bpe([""], 4096).vocab_size == 257


def test_a_vocabulary_without_room_for_the_bytes_is_an_error():
    with pytest.raises(UserError, match="vocab_size: 256 is out of range, expected >= 257"):
        train_bpe(["text"], 256)


def test_the_json_keeps_the_kind(verse):
    data = json.loads(json.dumps(train_bpe([verse], 300).to_json()))
    again = tokenizers.from_json(data)
    assert (data["kind"], again.kind) == ("bpe", "bpe")
    assert again.hash == train_bpe([verse], 300).hash
    with pytest.raises(UserError, match="do not match ranks_sha256"):
        tokenizers.from_json(data | {"ranks": data["ranks"][:-9]})


def test_possessive_counts_are_rewritten_and_escaped_signs_are_not():
    assert hf_pattern(r"\p{L}++|x?+|\d{1,3}+|y*+|\s++$") == r"\p{L}+|x?|\d{1,3}|y*|\s+\z"
    assert hf_pattern(r"\++|\?+| ?\p{L}+") == r"\++|\?+| ?\p{L}+"
