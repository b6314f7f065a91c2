import pytest

from minigpt.data.source import read_documents
from minigpt.errors import UserError


@pytest.fixture
def books(tmp_path):
    folder = tmp_path / "books"
    (folder / "more").mkdir(parents=True)
    (folder / ".git").mkdir()
    (folder / ".git" / "index").write_bytes(b"\xff")
    (folder / "b.txt").write_text("second")
    (folder / "a.txt").write_text("first")
    (folder / "more" / "c.md").write_text("third")
    (folder / "empty.txt").write_text("")
    return folder


def test_a_folder_is_read_in_order_of_path_without_hidden_and_empty_files(books):
    assert read_documents(str(books)) == ["first", "second", "third"]


def test_a_glob_takes_what_it_matches(books):
    assert read_documents(f"{books}/*.txt") == ["first", "second"]
    assert read_documents(f"{books}/**/*.md") == ["third"]


def test_newlines_are_unified_and_a_byte_order_mark_is_dropped(tmp_path):
    (tmp_path / "dos.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo\rthree\n")
    assert read_documents(str(tmp_path / "dos.txt")) == ["one\ntwo\nthree\n"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("books/*.rst", "no file matches"),
        ("book", "does not exist.*Did you mean 'books'"),
        ("books/empty.txt", "is empty"),
        ("books/e*.t?t", "is empty"),
        ("books/.git", "not UTF-8 text: byte 0xff at offset 0"),
        ("hollow", "holds no files"),
    ],
)
def test_a_source_without_text_is_an_error(books, tmp_path, monkeypatch, source, message):
    (tmp_path / "hollow").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        read_documents(source)


def test_text_that_is_not_utf8_is_named_with_the_way_out(tmp_path):
    (tmp_path / "latin.txt").write_bytes("straße".encode("latin-1"))
    with pytest.raises(UserError, match=r"byte 0xdf at offset 4.\n.*iconv"):
        read_documents(str(tmp_path / "latin.txt"))


def test_of_lines_of_json_the_text_is_read_and_nothing_else(tmp_path):
    lines = ['{"text": "one\\ntwo", "id": 7}', "", '{"id": 8, "text": "three"}']
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    (tmp_path / "b.txt").write_text("four")
    assert read_documents(str(tmp_path)) == ["one\ntwo", "three", "four"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"prompt": "a", "answer": "b"}', r"a\.jsonl:2: has no field 'text' that is text \(it has: answer, prompt\)"),
        ('{"text": 5}', r"a\.jsonl:2: has no field 'text' that is text"),
        ('["text"]', r"a\.jsonl:2: has no field 'text' that is text \(it has: list\)"),
        ('{"text": "a', r"a\.jsonl:2: not JSON"),
        ("[" * 100_000, r"a\.jsonl:2: not JSON"),
    ],
)
def test_lines_of_json_without_text_are_never_trained_on_as_they_stand(tmp_path, line, message):
    (tmp_path / "a.jsonl").write_text('{"text": "fine"}\n' + line)
    with pytest.raises(UserError, match=message):
        read_documents(str(tmp_path / "a.jsonl"))
