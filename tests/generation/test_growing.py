"""Growing text: whole characters, and an end at a stop string however tokens cut it."""

from __future__ import annotations

import random

import pytest

from minigpt.data.tokenizers import ByteTokenizer, CharTokenizer, Tokenizer
from minigpt.generation.growing import GrowingText

BYTES = ByteTokenizer()


class Words(Tokenizer):
    """Tokens of several characters, and a decoder that takes away the space a text begins with."""

    kind = "words"
    words = (" the", " cat", "St", "op", "S", "top:", " :", "é")

    def __init__(self):
        self.vocab_size = len(self.words)

    def encode(self, text): ...

    def _decode(self, tokens):
        return "".join(self.words[token] for token in tokens).removeprefix(" ")

    def token_bytes(self): ...

    def to_json(self): ...


def grown(tokens, stop=(), tokenizer=BYTES, before=()) -> tuple[GrowingText, list[str]]:
    """The text of these tokens, and the parts in which it was released."""
    text, parts = GrowingText(tokenizer, before, stop), []
    for token in tokens:
        ended = text.add(token)
        parts += [piece.text for piece in text.released()]
        if ended:
            break
    text.finish()
    return text, parts + [piece.text for piece in text.released(last=True)]


def test_characters_spread_over_tokens_come_whole():
    text = "aé€\U0001f600z"
    assert grown(text.encode())[1] == list(text)


def test_broken_bytes_wait_no_longer_than_a_character():
    growing, parts = grown([0x61, 0x80, 0x80, 0x80, 0x80, 0x80, 0x62])
    assert "".join(parts).replace("\N{REPLACEMENT CHARACTER}", "") == "ab"
    assert grown([0x61, 0xF0])[0].text == "a\N{REPLACEMENT CHARACTER}"
    after_broken = [0x80, 0x80, 0x80, 0x80, *"\U0001f600é".encode()]
    assert grown(after_broken)[0].text.endswith("\U0001f600é")
    ids = random.Random(0).choices(range(256), k=500)
    growing, parts = grown(ids)
    assert all(parts)
    assert "".join(parts) == growing.text
    assert growing.tokens == 500


def test_a_text_behind_a_prompt_keeps_its_space():
    assert grown([0, 1], tokenizer=Words())[0].text == "the cat"
    assert grown([0, 1], tokenizer=Words(), before=[1])[0].text == " the cat"


@pytest.mark.parametrize(
    ("tokens", "stop", "text", "kept", "found"),
    [
        ([0, 2, 3, 1], ["Stop"], "the", 1, "Stop"),  # over two tokens
        ([0, 4, 5, 1], ["Stop"], "the", 1, "Stop"),  # and into the middle of the second
        ([0, 4, 5, 1], ["top"], "theS", 2, "top"),
        ([0, 4, 5, 1], ["p:", "t"], "", 0, "t"),  # the first in the text
        ([4, 5], [":", "top", "St"], "", 0, "St"),  # of those that one token completes
        ([4, 5], ["op:"], "St", 2, "op:"),  # a token that reaches into it
        ([0, 1, 4], ["Stop"], "the catS", 3, ""),
        ([7, 7], ["éé"], "", 0, "éé"),
        ([0, 1], ["the cat"], "", 0, "the cat"),
    ],
)
def test_a_stop_string_ends_the_text_wherever_tokens_cut_it(tokens, stop, text, kept, found):
    growing, parts = grown(tokens, stop, Words())
    assert (growing.text, growing.tokens, growing.found) == (text, kept, found)
    assert "".join(parts) == text


def test_nothing_is_released_that_a_stop_string_could_take_back():
    growing = GrowingText(BYTES, stop=["END", "\n\n"])
    seen = []
    for byte in b"a E\nEN\nENEND and":
        ended = growing.add(byte)
        seen.append("".join(piece.text for piece in growing.released()))
        if ended:
            break
    assert seen[:4] == ["a", " ", "", "E"]  # the E waits for what follows it; the line break in turn
    assert "".join(seen) == growing.text == "a E\nEN\nEN"


def test_random_texts_end_where_a_search_in_the_whole_text_says():
    draw = random.Random(1)
    tokenizer = CharTokenizer("abc")
    for _ in range(500):
        text = "".join(draw.choices("abc", k=30))
        stop = ["".join(draw.choices("abc", k=draw.randint(1, 5))) for _ in range(draw.randint(0, 3))]
        growing, parts = grown(tokenizer.encode(text).tolist(), stop, tokenizer)
        ends = [(text.index(each) + len(each), text.index(each)) for each in stop if each in text]
        expected = text[: min((begin for end, begin in ends if end == min(ends)[0]))] if ends else text
        assert growing.text == "".join(parts) == expected
        assert growing.tokens == len(expected)


def test_an_incomplete_character_may_complete_a_stop_string():
    growing, parts = grown([0x61, 0xF0], stop=["\N{REPLACEMENT CHARACTER}"])
    assert (growing.text, growing.found, growing.tokens, parts) == ("a", "\N{REPLACEMENT CHARACTER}", 1, ["a"])
