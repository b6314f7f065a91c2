import copy
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from minigpt.data import tokenizers
from minigpt.data.hf_tokenizer import HuggingFaceTokenizer
from minigpt.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
TEXT = "Ein Stück für Élise \u2013 5 € 🎈\n\n\ttab,  <|endoftext|> and 漢字. "


def trained(verse, manner) -> dict:
    """What the library writes of a small vocabulary it trained itself, in the manner of a published model."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    if manner == "gpt2":
        made = Tokenizer(models.BPE())
        made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        made.train_from_iterator([verse], trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet))
        made.add_special_tokens(["<|endoftext|>", "<|im_start|>"])
        return json.loads(made.to_str())
    fallback = [f"<0x{byte:02X}>" for byte in range(256)]
    special = ["<unk>", "<s>", "</s>", *fallback]
    if manner == "llama":
        made = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
        made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        made.train_from_iterator([verse], trainers.BpeTrainer(vocab_size=400, special_tokens=special))
        steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        made.decoder = decoders.Sequence(steps)
        made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    else:
        made = Tokenizer(models.Unigram())
        made.pre_tokenizer, made.decoder = pre_tokenizers.Metaspace(prepend_scheme="never"), decoders.Metaspace()
        trainer = trainers.UnigramTrainer(vocab_size=320, special_tokens=special, unk_token="<unk>")
        made.train_from_iterator([verse], trainer)
    content = json.loads(made.to_str())
    content["model"]["byte_fallback"] = True
    content["added_tokens"] = content["added_tokens"][:3]  # the bytes are part of the vocabulary, nothing special
    if manner == "unigram":
        content["decoder"] = {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, content["decoder"]]}
    return content


@pytest.fixture(scope="session")
def contents():
    from tests.data.conftest import VERSE

    return {manner: trained(VERSE, manner) for manner in ("gpt2", "llama", "unigram")}


@pytest.mark.parametrize("manner", ["gpt2", "llama", "unigram"])
def test_the_tokens_are_those_of_the_library_and_stand_for_the_bytes_of_the_text(contents, manner):
    from tokenizers import Tokenizer

    ours, theirs = HuggingFaceTokenizer(contents[manner]), Tokenizer.from_str(json.dumps(contents[manner]))
    theirs.encode_special_tokens = True
    tokens = ours.encode(TEXT)
    assert tokens.tolist() == theirs.encode(TEXT, add_special_tokens=False).ids
    front = " " if manner == "llama" else ""  # Llama 2 reads a space in front of every text
    assert ours.decode(tokens) == front + TEXT
    assert ours.token_bytes()[tokens].sum() == len((front + TEXT).encode())
    assert tokens.max() < ours.vocab_size


@pytest.mark.parametrize("manner", ["gpt2", "llama", "unigram"])
def test_the_json_written_and_read_gives_the_same_tokenizer(contents, manner):
    tokenizer = HuggingFaceTokenizer(contents[manner], chat_template="{{ messages }}")
    again = tokenizers.from_json(json.loads(json.dumps(tokenizer.to_json())))
    assert again.hash == tokenizer.hash
    assert (again.encode(TEXT) == tokenizer.encode(TEXT)).all()
    assert (again.eot_token, again.bos_token, again.prefix) == (
        tokenizer.eot_token,
        tokenizer.bos_token,
        tokenizer.prefix,
    )
    assert again.chat_template == "{{ messages }}"


def test_the_tokens_around_a_text_are_known_by_their_usual_names_or_as_told(contents):
    gpt2, llama = HuggingFaceTokenizer(contents["gpt2"]), HuggingFaceTokenizer(contents["llama"])
    assert (gpt2.eot_token, gpt2.bos_token, gpt2.prefix) == (300, None, ())
    assert (llama.eot_token, llama.bos_token, llama.prefix) == (2, 1, (1,))
    assert HuggingFaceTokenizer(contents["gpt2"], eot="<|im_start|>").eot_token == 301
    with pytest.raises(UserError, match=r"eos_token: '<nowhere>' is not in the vocabulary"):
        HuggingFaceTokenizer(contents["gpt2"], eot="<nowhere>")


def test_text_becomes_special_tokens_only_where_it_is_marked(contents):
    tokenizer = HuggingFaceTokenizer(contents["gpt2"])
    assert 300 not in tokenizer.encode("<|endoftext|>")
    assert tokenizer.encode_marked("<|im_start|>a<|endoftext|>").tolist()[::2] == [301, 300]
    assert 300 not in tokenizer.encode("<|endoftext|>")
    assert tokenizer.decode([300]) == "<|endoftext|>"
    assert tokenizer.token_bytes()[300:].tolist() == [0, 0]


def test_pieces_of_a_text_decode_with_their_spaces(contents):
    for manner in ("gpt2", "llama", "unigram"):
        tokenizer = HuggingFaceTokenizer(contents[manner])
        tokens = tokenizer.encode("The quick brown fox")
        assert "".join(tokenizer.decode([token]) for token in tokens).strip() == "The quick brown fox"


def test_lone_surrogates_are_replaced_as_in_the_other_kinds(contents):
    assert HuggingFaceTokenizer(contents["gpt2"]).decode(HuggingFaceTokenizer(contents["gpt2"]).encode("\ud800")) == "?"


def test_text_outside_a_vocabulary_without_bytes_is_an_error(contents):
    content = copy.deepcopy(contents["unigram"])
    content["model"]["byte_fallback"] = False
    with pytest.raises(UserError, match=r"cannot express what follows 'The ' in the text"):
        HuggingFaceTokenizer(content).encode("The 漢字")


def changed(content, path, value):
    content = copy.deepcopy(content)
    *before, last = path
    at = content
    for key in before:
        at = at[key]
    at[last] = value
    return content


ADDED = {"id": 300, "content": "<x>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
REGEX = {"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated", "invert": False}
SLOW = REGEX | {"pattern": {"Regex": "(.|..|...)+;\\z"}}
GROWTH = {"type": "Replace", "pattern": {"String": "a"}, "content": "aaaaaaaa"}
HOSTILE = [
    ((), None, "expected Hugging Face's tokenizer.json"),
    (("model",), [], "with a 'model' that has a 'vocab'"),
    (("model", "type"), "WordPiece", "drops the spaces"),
    (("model", "type"), "Evil\x1b[2J", r"'Evil\\x1b\[2J' is not one"),
    (("model", "vocab"), {}, "(is empty|joins what is not)"),
    (("model", "vocab"), {"a": -1}, "ids in 0"),
    (("model", "vocab"), {"a": 1 << 40}, "ids in 0"),
    (("model", "vocab"), {"a": True}, "ids in 0"),
    (("model", "vocab"), "abc", "expected tokens with ids"),
    (("model", "vocab", "a"), 0, "two tokens have the same id"),
    (("model", "merges"), [["a", "q\x1b"]], "joins what is not in the vocabulary"),
    (("model", "merges"), [["a"]], "expected pairs of tokens"),
    (("model", "merges"), 5, "expected a list"),
    (("model", "dropout"), 0.5, "makes the tokens random"),
    (("model", "continuing_subword_prefix"), "##", "mark the parts of words"),
    (("model", "vocab"), {"a": 0, "b": 1}, "joins what is not in the vocabulary"),
    (("added_tokens",), {"a": 1}, "expected a list"),
    (("added_tokens",), [5], "expected entries with a 'content'"),
    (("added_tokens",), [ADDED | {"id": 4294967295, "special": True}], "expected entries with a 'content'"),
    (("added_tokens",), [ADDED | {"id": 777, "special": True}], "leaves a gap before it"),
    (("normalizer",), {"type": "Lowercase"}, "'Lowercase' is not one minigpt takes"),
    (("normalizer",), {"type": "Precompiled", "precompiled_charsmap": "BAAAAP////8="}, "'Precompiled' is not one"),
    (("normalizer",), {"type": "Sequence", "normalizers": [GROWTH] * 3}, "make the text longer stand in it 3 times"),
    (("normalizer",), GROWTH | {"content": "a" * 9}, "at most 8 characters"),
    (("normalizer",), {"type": "Sequence", "normalizers": [{"type": "NFC"}] * 30}, "31 steps, expected at most 24"),
    (("normalizer",), GROWTH, "changes the text"),
    (("pre_tokenizer",), "ByteLevel", "expected a step with a 'type'"),
    (("pre_tokenizer",), REGEX, "not usable: Oniguruma error"),
    (("pre_tokenizer",), SLOW, "not usable: Onig: Regex search error"),
    (("pre_tokenizer",), None, "changes the text"),
    (("decoder",), {"type": "CTC", "pad_token": "a", "word_delimiter_token": "|", "cleanup": True}, "'CTC' is not one"),
    (
        ("post_processor",),
        {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "z", "type_id": 0}}], "pair": []}
        | {"special_tokens": {}},
        "not usable",
    ),
]


@pytest.mark.parametrize(("path", "value", "message"), HOSTILE, ids=lambda value: str(value)[:40])
def test_a_hostile_or_broken_file_is_an_error_of_one_line(contents, path, value, message, capfd):
    content = changed({"all": contents["gpt2"]}, ("all", *path), value)["all"]
    with pytest.raises(UserError, match=message) as error:
        HuggingFaceTokenizer(content)
    assert len(str(error.value)) < 500
    assert "\x1b" not in str(error.value)
    assert capfd.readouterr().err == ""  # a panic of the library writes a stack trace


def places(node, before=()):
    """Paths into nested JSON, the first few of each list and object."""
    yield before
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in list(items)[:30]:
        yield from places(value, (*before, key))


def test_four_hundred_broken_files_are_accepted_or_a_user_error(contents):
    chance = random.Random(0)
    values = [None, True, -1, 2**40, 1e308, "", "é\x1b", "<unk>", [], {}, [1], [[], 1], {"type": "NFC"}, {"a": 1}]
    ended = {"accepted": 0, "refused": 0}
    for _ in range(400):
        content = contents[chance.choice(list(contents))]
        path = chance.choice([path for path in places(content) if path])
        content = changed(content, path, chance.choice(values))
        try:
            tokenizer = HuggingFaceTokenizer(content)
            tokenizer.decode(tokenizer.encode("The naïve 5 € fox\n"))
            ended["accepted"] += 1
        except UserError:
            ended["refused"] += 1
    assert min(ended.values()) > 20


def test_a_deeply_nested_step_is_an_error(contents):
    node: dict = {"type": "NFC"}
    for _ in range(200):
        node = {"type": "Sequence", "normalizers": [node]}
    with pytest.raises(UserError, match="expected a step"):
        HuggingFaceTokenizer(changed(contents["gpt2"], ("normalizer",), node))


def test_padding_and_truncation_of_the_file_do_not_touch_a_text(contents):
    content = contents["gpt2"] | {
        "truncation": {"max_length": 2, "strategy": "LongestFirst", "stride": 5, "direction": "Right"},
        "padding": {"strategy": {"Fixed": 100}, "direction": "Right", "pad_id": 0, "pad_type_id": 0, "pad_token": "!"},
    }
    assert HuggingFaceTokenizer(content).decode(HuggingFaceTokenizer(content).encode(TEXT)) == TEXT


def test_the_library_is_not_imported_for_the_other_kinds():
    code = "import sys; from minigpt.data import hf_files, preparation; assert 'tokenizers' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=os.environ, check=True)
