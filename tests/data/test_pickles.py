import os
import pickle

import pytest

from minigpt.data.pickles import read_nanogpt_meta, read_plain_pickle
from minigpt.errors import UserError


class Attack:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def dump(path, value, protocol=None):
    path.write_bytes(pickle.dumps(value, protocol))
    return path


def nanogpt_meta(characters="\n abc"):
    return {
        "vocab_size": len(characters),
        "itos": dict(enumerate(characters)),
        "stoi": {c: i for i, c in enumerate(characters)},
    }


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_would_run_code_is_refused_and_runs_nothing(tmp_path, protocol):
    target = tmp_path / "attacked"
    path = dump(tmp_path / "meta.pkl", nanogpt_meta() | {"itos": Attack(target)}, protocol)
    with pytest.raises(UserError, match=r"could run code"):
        read_plain_pickle(path)
    assert not target.exists()
    pickle.loads(path.read_bytes())
    assert target.exists()  # the attack works on the ordinary unpickler, so the test means something


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_containers_are_read(tmp_path, protocol):
    value = {"a": [1, 2.5, None, True], "b": ("x", "é"), "c": {"d": {}}}
    assert read_plain_pickle(dump(tmp_path / "meta.pkl", value, protocol)) == value


@pytest.mark.parametrize(
    "content", [b"", b"garbage", pickle.dumps({"a": "b" * 100})[:20], b"\x80\x05r\xff\xff\xff\xff."]
)
def test_a_damaged_pickle_is_an_error(tmp_path, content):
    (tmp_path / "meta.pkl").write_bytes(content)
    with pytest.raises(UserError, match=r"not a pickle of plain containers"):
        read_plain_pickle(tmp_path / "meta.pkl")


def test_nanogpts_numbering_of_characters_is_kept(tmp_path):
    tokenizer = read_nanogpt_meta(dump(tmp_path / "meta.pkl", nanogpt_meta("zya\n")))
    assert tokenizer.encode("ay\nz").tolist() == [2, 1, 3, 0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"itos": {0: "a", 2: "b"}}, "numbering characters from 0"),
        ({"itos": None}, "numbering characters from 0"),
        ({"itos": {0: "ab"}}, "one character per token"),
        ({"vocab_size": 99}, "contradict"),
        ({"stoi": {"a": 0}}, "contradict"),
    ],
)
def test_a_meta_that_is_not_nanogpts_is_an_error(tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        read_nanogpt_meta(dump(tmp_path / "meta.pkl", nanogpt_meta() | change))
