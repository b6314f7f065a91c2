from pathlib import Path

import pytest

from minigpt.data import text_files
from minigpt.data.source import open_source
from minigpt.data.survey import with_text
from minigpt.errors import UserError


def read_documents(source, **keys):
    """The texts of the documents with any; a text in parts joined."""
    texts, going_on = [], False
    for document in with_text(open_source(source, **keys).documents()):
        texts[-1:] = [texts[-1] + document.text] if going_on else [*texts[-1:], document.text]
        going_on = not document.ends
    return texts


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
        ("books/a.zip", "unpack it, or use .gz or .zst"),
        ("books/a.bin", "holds tokens, not text"),
        ("books/.git", "not UTF-8 text: byte 0xff at offset 0"),
        ("hollow", "holds no files"),
    ],
)
def test_a_source_without_text_is_an_error(books, tmp_path, monkeypatch, source, message):
    (tmp_path / "hollow").mkdir()
    (books / "a.zip").write_bytes(b"PK")
    (books / "a.bin").write_bytes(b"..")
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


def packed(path, content):
    """Write text, packed as the path's ending says."""
    import gzip

    import zstandard

    data = content.encode()
    pack = {".gz": gzip.compress, ".zst": zstandard.ZstdCompressor().compress}.get(path.suffix, lambda data: data)
    path.write_bytes(pack(data))
    return str(path)


@pytest.mark.parametrize("ending", [".gz", ".zst", ".GZ"])
def test_compressed_files_are_read_as_what_they_unpack_to(tmp_path, ending):
    assert read_documents(packed(tmp_path / f"a.txt{ending.lower()}", "one\r\ntwo")) == ["one\ntwo"]
    lines = '{"text": "one"}\n{"text": "two"}\n'
    assert read_documents(packed(tmp_path / f"a.jsonl{ending.lower()}", lines)) == ["one", "two"]


def test_frames_and_members_after_the_first_are_read_too(tmp_path):
    for ending in (".gz", ".zst"):
        first, second = packed(tmp_path / f"a.txt{ending}", "one"), packed(tmp_path / f"b.txt{ending}", "two")
        both = tmp_path / f"c.txt{ending}"
        both.write_bytes(b"".join(Path(path).read_bytes() for path in (first, second)))
        assert read_documents(str(both)) == ["onetwo"]


@pytest.mark.parametrize("ending", [".gz", ".zst"])
@pytest.mark.parametrize("damage", [lambda data: data[:-6], lambda data: b"no" + data, lambda data: b""])
def test_a_damaged_compressed_file_is_an_error_that_names_it(tmp_path, ending, damage):
    path = tmp_path / f"a.txt{ending}"
    packed(path, "".join(chr(97 + i * i % 25) for i in range(5000)))
    path.write_bytes(damage(path.read_bytes()))
    if not path.read_bytes():
        assert read_documents(str(path)) == []
        return
    with pytest.raises(UserError, match=rf"a\.txt\{ending}.*(damaged|not UTF-8)"):
        read_documents(str(path))


def test_a_bomb_is_read_a_block_at_a_time(tmp_path):
    import tracemalloc
    import zlib

    squeeze = zlib.compressobj(wbits=31)
    path = tmp_path / "bomb.txt.gz"
    path.write_bytes(b"".join(squeeze.compress(bytes(1 << 20)) for _ in range(64)) + squeeze.flush())
    assert path.stat().st_size < 1 << 17
    tracemalloc.start()
    characters = sum(len(document.text) for document in open_source(str(path)).documents())
    _, largest = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert characters == 64 << 20
    assert largest < 48 << 20


def test_a_line_that_never_ends_is_an_error_before_memory_is(tmp_path, monkeypatch):
    monkeypatch.setattr(text_files, "LONGEST_LINE", 1000)
    monkeypatch.setattr(text_files, "BLOCK", 100)
    (tmp_path / "a.jsonl").write_text('{"text": "fine"}\n{"text": "' + "a" * 2000)
    with pytest.raises(UserError, match=r"a\.jsonl:2: a line of more than"):
        read_documents(str(tmp_path / "a.jsonl"))


@pytest.mark.parametrize("block", [1, 2, 3, 7, 1000])
def test_where_blocks_end_makes_no_difference(tmp_path, monkeypatch, block):
    monkeypatch.setattr(text_files, "BLOCK", block)
    (tmp_path / "a.txt").write_bytes("\ufeffna\u00efve \U0001f388\r\nnext\r\rlast\r".encode())
    assert read_documents(str(tmp_path / "a.txt")) == ["na\u00efve \U0001f388\nnext\n\nlast\n"]
    (tmp_path / "b.txt").write_bytes(b"fine until \xe2\x82")
    with pytest.raises(UserError, match="byte 0xe2 at offset 11"):
        read_documents(str(tmp_path / "b.txt"))
    (tmp_path / "c.jsonl").write_bytes(b'{"text": "a"}\r\n\r\n{"text": 5}')
    with pytest.raises(UserError, match=r"c\.jsonl:3"):
        read_documents(str(tmp_path / "c.jsonl"))


def test_a_long_text_comes_in_parts_cut_before_a_word_that_begins_a_line(tmp_path, monkeypatch):
    monkeypatch.setattr(text_files, "PART", 100)
    text = "A line of words.\n\n  indented\nNext line 5.\n" * 20 + "x" * 250
    (tmp_path / "a.txt").write_text(text)
    parts = list(open_source(str(tmp_path / "a.txt")).documents())
    assert "".join(part.text for part in parts) == text
    assert [part.ends for part in parts] == [False] * (len(parts) - 1) + [True]
    assert max(len(part.text) for part in parts) <= 100
    assert all(part.text.endswith("\n") and part.text[0].isalnum() for part in parts[:-4])


def test_the_field_of_the_text_has_a_name(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"body": "one", "text": 5}\n')
    assert read_documents(str(tmp_path / "a.jsonl"), text_key="body") == ["one"]
    with pytest.raises(UserError, match=r"(?s)no field 'text' that is text.*text_key=<field>"):
        read_documents(str(tmp_path / "a.jsonl"))
    (tmp_path / "b.txt").write_text("text")
    with pytest.raises(UserError, match=r"text_key: .* has no fields or columns"):
        open_source(str(tmp_path / "b.txt"), "body")


def test_origins_say_file_and_line(books):
    (books / "d.jsonl").write_text('\n{"text": "fourth"}')
    assert [document.origin for document in open_source(str(books)).documents()][-3:] == [
        f"{books}/d.jsonl:2",
        f"{books}/empty.txt",
        f"{books}/more/c.md",
    ]
