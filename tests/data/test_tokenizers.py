import json

import numpy as np
import pytest
import torch

from minigpt.data import tokenizers
from minigpt.data.bpe import train_bpe
from minigpt.data.hf_files import to_huggingface
from minigpt.data.hf_tokenizer import HuggingFaceTokenizer
from minigpt.data.tiktoken_bpe import load_encoding
from minigpt.data.tokenizers import ByteTokenizer, CharTokenizer
from minigpt.errors import UserError

TEXT = "Ein Stück für Élise \u2013 5 € 🎈\n\ttab, <|endoftext|> and 漢字."


@pytest.fixture(params=tokenizers.KINDS)
def tokenizer(request):
    """One of each kind; byte pairs of thirty merges."""
    makers = {
        "char": lambda: CharTokenizer.of_text(TEXT),
        "byte": ByteTokenizer,
        "tiktoken": lambda: load_encoding(str(request.getfixturevalue("ranks_file"))),
        "bpe": lambda: train_bpe([TEXT], 290),
        "huggingface": lambda: HuggingFaceTokenizer(to_huggingface(train_bpe([TEXT], 290))),
    }
    return makers[request.param]()


def test_decode_is_the_way_back_from_encode(tokenizer):
    assert tokenizer.decode(tokenizer.encode(TEXT)) == TEXT
    assert tokenizer.encode("").shape == (0,)
    assert tokenizer.decode([]) == ""


def test_tokens_are_int64_inside_the_vocabulary(tokenizer):
    tokens = tokenizer.encode(TEXT)
    assert tokens.dtype == np.int64
    assert tokens.min() >= 0
    assert tokens.max() < tokenizer.vocab_size


def test_token_bytes_add_up_to_the_utf8_length_of_the_text(tokenizer):
    lengths = tokenizer.token_bytes()
    assert lengths.shape == (tokenizer.vocab_size,)
    assert lengths.dtype == np.int64
    assert lengths[tokenizer.encode(TEXT)].sum() == len(TEXT.encode())


def test_json_written_and_read_gives_the_same_tokenizer(tokenizer):
    again = tokenizers.from_json(json.loads(json.dumps(tokenizer.to_json())))
    assert again.hash == tokenizer.hash
    assert again.vocab_size == tokenizer.vocab_size
    assert again.eot_token == tokenizer.eot_token
    assert (again.encode(TEXT) == tokenizer.encode(TEXT)).all()


def test_an_id_outside_the_vocabulary_is_an_error(tokenizer):
    for outside in (-1, tokenizer.vocab_size):
        with pytest.raises(UserError, match=rf"token {outside} is outside"):
            tokenizer.decode([0, outside])


def test_decode_reads_tensors_of_any_shape(tokenizer):
    tokens = torch.from_numpy(tokenizer.encode(TEXT))
    assert tokenizer.decode(tokens[None]) == TEXT


@pytest.mark.parametrize("tokenizer", [CharTokenizer.of_text(TEXT), ByteTokenizer()], ids=lambda t: t.kind)
def test_text_of_kinds_that_may_be_cut_gives_the_same_tokens_in_pieces(tokenizer):
    assert tokenizer.cut_anywhere
    pieces = [tokenizer.encode(character) for character in TEXT]
    assert (np.concatenate(pieces) == tokenizer.encode(TEXT)).all()


def test_a_vocabulary_may_hold_what_no_option_may():
    tokenizer = CharTokenizer("a\0\ud800")
    assert tokenizers.from_json(json.loads(json.dumps(tokenizer.to_json()))).hash == tokenizer.hash


def test_hash_is_stable_and_tells_tokenizers_apart():
    assert CharTokenizer("ab").hash == CharTokenizer("ab").hash != CharTokenizer("ba").hash
    assert ByteTokenizer().hash == "7da8b59d384076438bab9ae10dee36e1ed40155053c42c319918fb1eb47b641e"


def test_a_char_vocabulary_is_the_characters_of_the_text_in_order():
    assert CharTokenizer.of_text("banana\n").characters == "\nabn"


def test_a_character_outside_the_vocabulary_is_named_with_its_place_and_the_way_out():
    with pytest.raises(UserError) as error:
        CharTokenizer.of_text("abc ").encode("abc é a")
    assert "character 'é' (U+00E9) at position 4, in 'abc é a'" in str(error.value)
    assert "tokenizer=byte" in str(error.value)


@pytest.mark.parametrize("character", ["\0", "\U0010ffff", "\ud800"])
def test_extreme_characters_outside_the_vocabulary_are_errors_too(character):
    with pytest.raises(UserError, match=r"position 1"):
        CharTokenizer.of_text("ab").encode("a" + character)


def test_a_byte_sequence_that_ends_inside_a_character_still_decodes():
    tokens = ByteTokenizer().encode("5 €")[:-1]
    assert ByteTokenizer().decode(tokens) == "5 �"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "unknown tokenizer 'None'"),
        ({"kind": "chars"}, "Did you mean 'char'"),
        ({"kind": "char"}, "tokenizer.characters: missing"),
        ({"kind": "char", "characters": 5}, "tokenizer.characters: expected text"),
        ({"kind": "char", "characters": "aa"}, "each only once"),
        ({"kind": "char", "characters": ""}, "at least one"),
        ({"kind": "byte", "extra": 1}, "unknown key 'extra'"),
        ({"kind": "tiktoken", "encoding": "gpt2"}, "vocab_size: missing"),
    ],
)
def test_json_that_is_no_tokenizer_is_an_error(data, message):
    with pytest.raises(UserError, match=message):
        tokenizers.from_json(data)


def test_text_is_never_encoded_into_special_tokens(ranks_file):
    tokenizer = load_encoding(str(ranks_file))
    assert tokenizer.eot_token == 288
    assert tokenizer.eot_token not in tokenizer.encode("a<|endoftext|>b")
    assert tokenizer.decode([tokenizer.eot_token]) == "<|endoftext|>"
    assert tokenizer.token_bytes()[tokenizer.eot_token] == 0
