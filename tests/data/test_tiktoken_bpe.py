import json
import socket
import time

import pytest
import tiktoken

from minigpt.data import tiktoken_bpe, tokenizers
from minigpt.data.network import ANSWER_SECONDS
from minigpt.data.tiktoken_bpe import GPT2_PATTERN, load_encoding
from minigpt.errors import UserError


@pytest.fixture
def silent_network(monkeypatch, tmp_path):
    """A proxy that accepts and never answers: what a firewall does. Nothing is cached."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        for variable in ("NO_PROXY", "no_proxy", "HTTP_PROXY", "http_proxy"):
            monkeypatch.delenv(variable, raising=False)
        for variable in ("HTTPS_PROXY", "https_proxy"):
            monkeypatch.setenv(variable, f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path / "cache"))
        yield
        # Closing the server ends the request left behind.


def test_a_network_that_never_answers_is_an_error_that_names_the_cache_folder_not_a_hang(silent_network):
    started = time.monotonic()
    with pytest.raises(UserError, match=r"TIKTOKEN_CACHE_DIR") as error:
        load_encoding("gpt2", seconds=0.5)
    assert time.monotonic() - started < 2
    assert "'gpt2'" in str(error.value)
    assert "encoding=path/to" in str(error.value)
    assert ANSWER_SECONDS <= 9  # the default, with room for starting Python, stays within 10 s


def test_a_refused_connection_is_the_same_error_at_once(monkeypatch, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = server.getsockname()[1]
    for variable in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(variable, f"http://127.0.0.1:{closed}")
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    with pytest.raises(UserError, match=r"TIKTOKEN_CACHE_DIR"):
        load_encoding("gpt2")


def test_an_unknown_encoding_is_named_with_the_nearest():
    with pytest.raises(UserError, match=r"Did you mean 'gpt2'"):
        load_encoding("gpt-2")


def test_a_local_ranks_file_gives_the_tokens_tiktoken_gives(ranks_file):
    ours = load_encoding(str(ranks_file))
    reference = tiktoken.Encoding("small", pat_str=GPT2_PATTERN, mergeable_ranks=ours.ranks, special_tokens={})
    text = "The lazy fox costs 5 €, naïve!"
    assert ours.encode(text).tolist() == reference.encode(text)
    assert len(ours.encode("The quick brown fox")) < len("The quick brown fox")


def test_the_json_needs_neither_file_nor_network_nor_says_where_the_file_was(ranks_file, silent_network):
    text = json.dumps(load_encoding(str(ranks_file)).to_json())
    assert str(ranks_file.parent) not in text
    assert tokenizers.from_json(json.loads(text)).decode([65 - 33]) == load_encoding(str(ranks_file)).decode([65 - 33])


def test_ranks_that_were_changed_in_the_json_are_detected(ranks_file):
    data = load_encoding(str(ranks_file)).to_json()
    with pytest.raises(UserError, match=r"do not match ranks_sha256"):
        tokenizers.from_json(data | {"ranks": data["ranks"].replace("AA== 0\n", "AA== 999\n")})
    with pytest.raises(UserError, match=r"vocab_size: 99 expected"):
        tokenizers.from_json(data | {"vocab_size": 99})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("not ranks", "line 1 is not 'base64 rank'"),
        ("", "expected ranks"),
        ("AA== 0\nAQ== 0\n", "each only once"),
        ("AA== 0\n", "no token for byte 1"),
    ],
)
def test_a_file_that_is_no_vocabulary_is_an_error(tmp_path, content, message):
    (tmp_path / "bad.tiktoken").write_text(content)
    with pytest.raises(UserError, match=message):
        load_encoding(str(tmp_path / "bad.tiktoken"))


def test_a_missing_ranks_file_and_one_of_another_pattern_are_errors(tmp_path):
    with pytest.raises(UserError, match=r"No such file"):
        load_encoding(str(tmp_path / "none.tiktoken"))
    with pytest.raises(UserError, match=r"another pattern.*\n.*encoding=cl100k_base"):
        load_encoding(str(tmp_path / "cl100k_base.tiktoken"))


def test_the_end_of_text_token_takes_the_first_id_no_rank_uses(ranks_file, tmp_path):
    lines = ranks_file.read_text().splitlines()
    token, _ = lines[270].split()
    gap = tmp_path / "gap.tiktoken"
    gap.write_text("\n".join([*lines[:270], *lines[271:], f"{token} 288"]))
    tokenizer = load_encoding(str(gap))
    assert (tokenizer.eot_token, tokenizer.vocab_size) == (270, 289)


@pytest.mark.parametrize("token", [-1, 1 << 40])
def test_a_special_token_out_of_all_proportion_is_an_error(ranks_file, token):
    data = load_encoding(str(ranks_file)).to_json()
    with pytest.raises(UserError, match="tokens outside 0"):
        tokenizers.from_json(data | {"special_tokens": {"<|endoftext|>": token}})


def test_ids_without_a_token_stand_for_no_text(ranks_file):
    ranks = load_encoding(str(ranks_file)).ranks
    tokenizer = tiktoken_bpe.TiktokenTokenizer("sparse", GPT2_PATTERN, ranks, {"<|endoftext|>": 400})
    assert tokenizer.vocab_size == 401
    assert tokenizer.decode([350]) == ""
    assert tokenizer.token_bytes()[288:].sum() == 0
