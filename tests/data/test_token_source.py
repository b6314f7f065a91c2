import json

import numpy as np
import pytest

from minigpt.data.dataset_folder import open_prepared
from minigpt.data.preparation import PrepareConfig, prepare
from minigpt.errors import UserError

EOT = 288  # of ranks_file


@pytest.fixture
def tokens(tmp_path):
    """Twenty documents of ten tokens, each ended by the end-of-text token, as nanoGPT stores them."""
    rows = np.arange(200, dtype=np.uint16).reshape(20, 10) % 256
    return np.hstack([rows, np.full((20, 1), EOT, dtype=np.uint16)]).reshape(-1)


@pytest.fixture
def read(tmp_path, ranks_file):
    def read(source, name="x", **keys):
        keys = {"tokenizer": "tiktoken", "encoding": str(ranks_file)} | keys
        config = PrepareConfig(source=str(source), name=name, folder=str(tmp_path / "data"), **keys)
        return open_prepared(name, prepare(config, say=lambda line: None).parent)

    return read


def test_a_file_of_tokens_becomes_a_dataset_of_the_same_tokens(tokens, read, tmp_path):
    tokens.tofile(tmp_path / "a.bin")
    data = read(tmp_path / "a.bin")
    assert np.concatenate([data.train.tokens, data.val.tokens]).tolist() == tokens.tolist()
    assert len(data.train.tokens) == 198  # 0.9 of 220 is the end of the 18th document
    assert data.document_starts("train").tolist() == list(range(0, 198, 11))
    assert data.document_starts("val").tolist() == [0, 11]
    bytes_of = data.tokenizer.token_bytes()
    assert (data.meta.train.bytes, data.meta.val.bytes) == (
        bytes_of[data.train.tokens].sum(),
        bytes_of[data.val.tokens].sum(),
    )
    assert "from tokens" in data.meta.made


def test_train_and_val_stay_what_they_are(tokens, read, tmp_path):
    (tmp_path / "owt").mkdir()
    tokens[:100].tofile(tmp_path / "owt" / "train.bin")
    tokens[100:].tofile(tmp_path / "owt" / "val.bin")
    data = read(tmp_path / "owt")
    assert data.train.tokens.tolist() == tokens[:100].tolist()
    assert data.val.tokens.tolist() == tokens[100:].tolist()
    assert data.meta.split == "as the source gives it"
    with pytest.raises(UserError, match=r"val_fraction: .* stay as they are"):
        read(tmp_path / "owt", "y", val_fraction=0.1)


def test_a_header_of_llm_c_is_no_token(tokens, read, tmp_path):
    header = np.zeros(256, dtype=np.int32)
    header[:3] = 20240520, 1, len(tokens)
    (tmp_path / "a.bin").write_bytes(header.tobytes() + tokens.tobytes())
    data = read(tmp_path / "a.bin")
    assert np.concatenate([data.train.tokens, data.val.tokens]).tolist() == tokens.tolist()
    header[2] += 1
    (tmp_path / "a.bin").write_bytes(header.tobytes() + tokens.tobytes())
    with pytest.raises(UserError, match="its header tells of 221 tokens, it has 220"):
        read(tmp_path / "a.bin", "y")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "0 bytes are no whole number"),
        (b"abc", "3 bytes are no whole number"),
        (np.full(90, 289, dtype=np.uint16).tobytes(), "token 289 is outside the vocabulary of 289"),
        (np.arange(1, 90, dtype=np.uint32).tobytes(), "looks like uint32"),
    ],
)
def test_a_file_that_holds_no_such_tokens_is_an_error(content, message, read, tmp_path):
    (tmp_path / "a.bin").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read(tmp_path / "a.bin")
    assert not list((tmp_path / "data").iterdir())


def test_tokens_need_the_name_of_their_tokenizer_and_no_text_beside_them(tokens, read, tmp_path):
    (tmp_path / "mixed").mkdir()
    tokens.tofile(tmp_path / "mixed" / "a.bin")
    with pytest.raises(UserError, match="say which tokenizer made them"):
        read(tmp_path / "mixed" / "a.bin", tokenizer=None, encoding=None)
    with pytest.raises(UserError, match="which have no fields"):
        read(tmp_path / "mixed" / "a.bin", text_key="body")
    (tmp_path / "mixed" / "b.txt").write_text("text")
    with pytest.raises(UserError, match=r"names tokens \(a.bin\) and other files \(b.txt\)"):
        read(tmp_path / "mixed")


def test_the_same_tokens_again_change_nothing(tokens, read, tmp_path):
    tokens.tofile(tmp_path / "a.bin")
    first = json.loads((read(tmp_path / "a.bin").path / "meta.json").read_text())
    assert json.loads((read(tmp_path / "a.bin").path / "meta.json").read_text()) == first
    tokens[::-1].tofile(tmp_path / "a.bin")
    with pytest.raises(UserError, match="from other text"):
        read(tmp_path / "a.bin")
