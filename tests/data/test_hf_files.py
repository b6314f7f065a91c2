import json

import pytest

from minigpt.data.bpe import train_bpe
from minigpt.data.hf_files import huggingface_config, read_tokenizer, to_huggingface
from minigpt.data.hf_tokenizer import HuggingFaceTokenizer
from minigpt.data.tiktoken_bpe import TiktokenTokenizer, load_encoding
from minigpt.data.tokenizers import ByteTokenizer, CharTokenizer
from minigpt.errors import UserError

CL100K = (
    r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|"""
    r"""\s+(?!\S)|\s"""
)


@pytest.fixture
def made(verse, ranks_file):
    return {
        "char": CharTokenizer.of_text(verse),
        "byte": ByteTokenizer(),
        "bpe": train_bpe([verse], 300),
        "tiktoken": load_encoding(str(ranks_file)),
        "cl100k": TiktokenTokenizer("cl100k", CL100K, train_bpe([verse], 300).ranks, {"<|endoftext|>": 299}),
    }


def write(folder, tokenizer, **config):
    (folder / "tokenizer.json").write_text(json.dumps(to_huggingface(tokenizer)))
    (folder / "tokenizer_config.json").write_text(json.dumps(huggingface_config(tokenizer) | config))
    return folder


@pytest.mark.parametrize("kind", ["char", "byte", "bpe", "tiktoken", "cl100k"])
def test_transformers_gives_the_same_tokens_as_the_tokenizer_it_was_written_from(made, verse, kind, tmp_path):
    transformers = pytest.importorskip("transformers")
    ours, theirs = made[kind], transformers.AutoTokenizer.from_pretrained(write(tmp_path, made[kind]))
    text = verse[:200] if kind == "char" else verse[:200] + "It's 123,456 'x'\r\n\n  y\t\t漢字 <|endoftext|>..!?\n \n"
    assert theirs(text.replace("<|", "< |"), add_special_tokens=False)["input_ids"] == (
        ours.encode(text.replace("<|", "< |")).tolist()
    )
    assert theirs.decode(ours.encode(text).tolist()) == text
    if ours.eot_token is not None:
        assert theirs.eos_token_id == ours.eot_token


@pytest.mark.parametrize("kind", ["char", "byte", "bpe"])
def test_what_was_written_of_ours_is_read_as_ours(made, kind, tmp_path):
    again = read_tokenizer(write(tmp_path, made[kind]))
    assert (again.kind, again.hash) == (kind, made[kind].hash)


def test_what_was_written_of_a_published_encoding_gives_the_same_tokens(made, verse, tmp_path):
    for kind in ("tiktoken", "cl100k"):
        again = read_tokenizer(write(tmp_path, made[kind]))
        assert (again.encode(verse) == made[kind].encode(verse)).all()
        assert (again.token_bytes() == made[kind].token_bytes()).all()
        assert again.eot_token == made[kind].eot_token


def test_a_file_of_hugging_faces_goes_back_out_as_it_came(made, tmp_path):
    content = to_huggingface(made["tiktoken"])
    assert to_huggingface(HuggingFaceTokenizer(content)) == {
        key: value for key, value in content.items() if key not in ("padding", "truncation")
    }


def test_the_end_token_and_the_chat_template_come_from_the_files_beside(made, tmp_path):
    folder = write(tmp_path, made["tiktoken"], eos_token={"content": "!"}, chat_template="{{ 1 }}")
    tokenizer = read_tokenizer(folder / "tokenizer.json")
    assert (tokenizer.decode([tokenizer.eot_token]), tokenizer.chat_template) == ("!", "{{ 1 }}")
    (folder / "chat_template.jinja").write_text("{{ 2 }}")
    assert read_tokenizer(folder).chat_template == "{{ 2 }}"
    assert huggingface_config(read_tokenizer(folder))["chat_template"] == "{{ 2 }}"
    named = [{"name": "tool", "template": "3"}, {"name": "default", "template": "4"}]
    (folder / "chat_template.jinja").unlink()
    assert read_tokenizer(write(tmp_path, made["bpe"], chat_template=named)).chat_template == "4"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ([], "tokenizer_config.json: expected an object"),
        ({"eos_token": 5}, "eos_token: expected text, got 5"),
        ({"eos_token": "<gone>"}, "'<gone>' is not in the vocabulary"),
        ({"chat_template": 5}, "chat_template: expected text"),
        ({"chat_template": "x" * (1 << 21)}, "chat_template: 2097152 characters, at most"),
    ],
)
def test_a_configuration_that_makes_no_sense_is_an_error(made, config, message, tmp_path):
    write(tmp_path, made["tiktoken"])
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=message):
        read_tokenizer(tmp_path)


@pytest.mark.parametrize("content", ["[]", "{}", "5", '"text"', '{"model": {"type": "WordLevel", "vocab": {"a": 0}}}'])
def test_a_file_that_is_no_tokenizer_is_an_error(content, tmp_path):
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(UserError, match=r"tokenizer\.json"):
        read_tokenizer(tmp_path)


def test_a_pattern_the_other_engine_cannot_follow_is_refused():
    ranks = {bytes([byte]): byte for byte in range(256)} | {b"  ": 256}
    tokenizer = TiktokenTokenizer("own", r" ++ |[\s\S]", ranks, {})  # the first half never matches
    with pytest.raises(UserError, match="cannot follow the pattern of 'own'"):
        to_huggingface(tokenizer)
