import json
import pickle

import numpy as np
import pytest

from minigpt.data.dataset_folder import dataset_names, open_prepared, prepared_names
from minigpt.data.recipe import recipe_names
from minigpt.errors import UserError


def rewrite(path, **changes):
    (path / "meta.json").write_text(json.dumps(json.loads((path / "meta.json").read_text()) | changes))


def opened(path):
    return open_prepared(path.name, path.parent)


@pytest.fixture
def nanogpt(tmp_path):
    """A folder as nanoGPT's data/shakespeare_char/prepare.py writes it."""
    text = "to be, or not to be: é\n" * 20
    characters = sorted(set(text))
    stoi = {c: i for i, c in enumerate(characters)}
    path = tmp_path / "old"
    path.mkdir()
    tokens = np.array([stoi[c] for c in text], dtype=np.uint16)
    tokens[:400].tofile(path / "train.bin")
    tokens[400:].tofile(path / "val.bin")
    meta = {"vocab_size": len(characters), "itos": dict(enumerate(characters)), "stoi": stoi}
    (path / "meta.pkl").write_bytes(pickle.dumps(meta))
    return path


def test_tokens_are_read_as_they_were_written(make):
    prepared = opened(make())
    assert prepared.tokenizer.decode(prepared.train.tokens).startswith("The quick brown fox")
    assert len(prepared.train.tokens) == prepared.meta.train.tokens


def test_equal_data_has_an_equal_hash_whatever_its_name(make):
    one, same, other = opened(make("one")), opened(make("same")), opened(make("other", val_fraction=0.2))
    assert one.meta.hash == same.meta.hash != other.meta.hash


def test_a_truncated_file_is_an_error(make):
    path = make()
    (path / "val.bin").write_bytes((path / "val.bin").read_bytes()[:-3])
    with pytest.raises(UserError, match=r"val.bin: truncated: .*tokens of 2 bytes.\n.*overwrite=true"):
        opened(path)


def test_a_file_of_another_dtype_is_an_error(make):
    path = make()
    np.fromfile(path / "train.bin", dtype=np.uint16).astype(np.uint32).tofile(path / "train.bin")
    with pytest.raises(UserError, match=r"wrong dtype: 4 bytes per token, but meta.json says 2"):
        opened(path)


def test_a_dtype_that_does_not_fit_the_vocabulary_is_an_error(make):
    path = make()
    rewrite(path, dtype="uint32")
    with pytest.raises(UserError, match=r"stored as uint16"):
        opened(path)
    rewrite(path, dtype="int64")
    with pytest.raises(UserError, match=r"dtype: expected one of uint16, uint32"):
        opened(path)


def test_a_token_outside_the_vocabulary_is_an_error(make):
    path = make()
    tokens = np.fromfile(path / "train.bin", dtype=np.uint16)
    tokens[100] = 60_000
    tokens.tofile(path / "train.bin")
    with pytest.raises(UserError, match=r"train.bin: token 60000 is outside the vocabulary"):
        opened(path)


def test_content_that_changed_since_it_was_prepared_is_an_error(make):
    path = make()
    tokens = np.fromfile(path / "train.bin", dtype=np.uint16)
    tokens[[0, 1]] = tokens[[1, 0]]
    tokens.tofile(path / "train.bin")
    with pytest.raises(UserError, match=r"changed since it was prepared"):
        opened(path)


def test_the_tokenizer_of_another_dataset_is_an_error(make):
    path, other = make(), make("other", text="xyz" * 100)
    (path / "tokenizer.json").write_bytes((other / "tokenizer.json").read_bytes())
    with pytest.raises(UserError, match=r"not the tokenizer this dataset was prepared with"):
        opened(path)


@pytest.mark.parametrize("file", ["train.bin", "val.bin", "tokenizer.json"])
def test_a_missing_file_is_an_error(make, file):
    path = make()
    (path / file).unlink()
    with pytest.raises(UserError, match=rf"{file}.*\n.*prepare.py"):
        opened(path)


@pytest.mark.parametrize("file", ["meta.json", "tokenizer.json"])
def test_torn_json_is_an_error(make, file):
    path = make()
    (path / file).write_bytes((path / file).read_bytes()[:30])
    with pytest.raises(UserError, match=rf"{file}: not JSON"):
        opened(path)


def test_an_unknown_dataset_is_an_error_with_the_nearest_names_and_the_way_to_prepare(make):
    path = make("tolstoy")
    with pytest.raises(UserError) as error:
        open_prepared("tolstoi", path.parent)
    text = str(error.value)
    assert "Did you mean 'tolstoy'?" in text
    assert f"prepared: tolstoy; recipes: {', '.join(recipe_names())}" in text
    assert "python data/prepare.py source=<file, folder or glob> name=tolstoi" in text


def test_a_dataset_with_a_recipe_that_is_not_prepared_says_how(tmp_path):
    with pytest.raises(
        UserError, match=r"is not prepared.*\n  Prepare it: python data/prepare.py dataset=shakespeare_char"
    ):
        open_prepared("shakespeare_char", tmp_path)


@pytest.mark.parametrize("name", ["../verse", "", ".hidden", "a/b"])
def test_a_name_that_is_a_path_is_an_error(tmp_path, name):
    with pytest.raises(UserError, match=r"dataset name"):
        open_prepared(name, tmp_path)


def test_names_are_of_prepared_datasets_and_of_recipes(make, nanogpt):
    make().rename(nanogpt.parent / "verse")
    assert prepared_names(nanogpt.parent) == ["old", "verse"]
    assert dataset_names(nanogpt.parent) == sorted(["old", "verse", *recipe_names()])
    assert prepared_names(nanogpt.parent / "nowhere") == []


def test_a_folder_of_nanogpt_is_read_through_its_meta_pkl(nanogpt):
    prepared = opened(nanogpt)
    assert prepared.tokenizer.decode(prepared.train.tokens) == ("to be, or not to be: é\n" * 20)[:400]
    assert prepared.meta.train.bytes == len(("to be, or not to be: é\n" * 20)[:400].encode())
    assert prepared.meta.hash == opened(nanogpt).meta.hash


def test_bad_files_of_nanogpt_are_errors(nanogpt):
    tokens = np.fromfile(nanogpt / "train.bin", dtype=np.uint16)
    tokens.astype(np.uint32).tofile(nanogpt / "train.bin")
    with pytest.raises(UserError, match=r"looks like uint32"):
        opened(nanogpt)
    (nanogpt / "train.bin").write_bytes(tokens.tobytes()[:-1])
    with pytest.raises(UserError, match=r"truncated"):
        opened(nanogpt)
    (tokens + 500).tofile(nanogpt / "train.bin")
    with pytest.raises(UserError, match=r"outside the vocabulary"):
        opened(nanogpt)
    (nanogpt / "train.bin").write_bytes(b"")
    with pytest.raises(UserError, match=r"empty"):
        opened(nanogpt)


def test_tokens_without_any_metadata_are_an_error(nanogpt):
    (nanogpt / "meta.pkl").unlink()
    with pytest.raises(UserError, match=r"neither a meta.json nor nanoGPT's meta.pkl"):
        opened(nanogpt)


def test_a_dataset_prepared_without_documents_opens_as_before(make):
    path = make()
    for split in ("train", "val"):
        (path / f"{split}.idx").unlink()
    meta = json.loads((path / "meta.json").read_text())
    for split in ("train", "val"):
        del meta[split]["documents"]
    (path / "meta.json").write_text(json.dumps(meta))
    assert open_prepared("verse", path.parent).document_starts("train") is None


@pytest.mark.parametrize(
    "content", [b"", bytes(7), bytes(16), (5).to_bytes(8, "little"), (2**63).to_bytes(8, "little") * 2]
)
def test_an_index_of_documents_that_does_not_fit_is_an_error(make, content):
    path = make()
    (path / "train.idx").write_bytes(content)
    with pytest.raises(UserError, match=r"train\.idx: expected 1 rising places.*\n.*overwrite=true"):
        open_prepared("verse", path.parent).document_starts("train")
    (path / "train.idx").unlink()
    with pytest.raises(UserError, match=r"train\.idx: could not be read"):
        open_prepared("verse", path.parent).document_starts("train")


def test_a_preparation_under_way_is_no_dataset(make):
    path = make()
    (path.parent / ".other.preparing").mkdir()
    (path.parent / ".other.preparing" / "meta.json").write_bytes((path / "meta.json").read_bytes())
    assert prepared_names(path.parent) == ["verse"]
