import pytest

from minigpt.data.source import open_source
from minigpt.errors import UserError

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


def texts(source, key=None):
    return [document.text for document in open_source(str(source), key).documents()]


@pytest.fixture
def table(tmp_path):
    """table(**columns) -> a Parquet file of them, of small row groups."""

    def table(name="a.parquet", **columns):
        parquet.write_table(pa.table(columns), tmp_path / name, row_group_size=700)
        return tmp_path / name

    return table


def test_rows_of_a_parquet_file_are_documents_in_order(table):
    path = table(text=[f"text {i}\r\n" for i in range(2000)], id=range(2000))
    assert texts(path) == [f"text {i}\n" for i in range(2000)]
    assert [d.origin for d in open_source(str(path)).documents()][1500] == f"{path}: row 1501"


def test_a_column_has_a_name_and_may_hold_repeated_texts_once(table):
    path = table(body=pa.array(["one", "two", "one"]).dictionary_encode(), label=[1, 2, 3])
    assert texts(path, "body") == ["one", "two", "one"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"txt": ["a"]}, r"(?s)has no column 'text'. Did you mean 'txt'.*text_key=<one of txt>"),
        ({"text": [5]}, "the column 'text' holds int64, expected text"),
        ({"text": ["a", None]}, r"a\.parquet: row 2: 'text' holds nothing, expected text"),
    ],
)
def test_a_table_without_text_is_an_error(table, columns, message):
    with pytest.raises(UserError, match=message):
        texts(table(**columns))


def test_a_file_that_is_no_parquet_is_an_error(table, tmp_path):
    (tmp_path / "b.parquet").write_bytes(b"PAR1 and nothing")
    with pytest.raises(UserError, match=r"b\.parquet: could not be read"):
        texts(tmp_path / "b.parquet")
    whole = table(text=["a" * 1000] * 50).read_bytes()
    (tmp_path / "c.parquet").write_bytes(whole[:40] + bytes(20) + whole[60:])
    with pytest.raises(UserError, match=r"c\.parquet: could not be read"):
        texts(tmp_path / "c.parquet")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A dataset of Hugging Face's on the disk, as save_to_disk and as files leave it."""
    datasets = pytest.importorskip("datasets")
    folder = tmp_path_factory.mktemp("hub")
    rows = datasets.Dataset.from_dict({"text": [f"row {i}" for i in range(1000)], "other": ["x"] * 1000})
    rows.save_to_disk(str(folder / "one"))
    datasets.DatasetDict({"train": rows, "test": rows.select(range(3))}).save_to_disk(str(folder / "splits"))
    (folder / "files").mkdir()
    rows.to_parquet(str(folder / "files" / "train.parquet"))
    return folder


def test_datasets_of_hugging_face_are_read_from_a_folder(saved):
    assert texts(f"hf:{saved}/one") == [f"row {i}" for i in range(1000)]
    assert texts(f"hf:{saved}/splits@test") == ["row 0", "row 1", "row 2"]
    assert texts(f"hf:{saved}/files", "other") == ["x"] * 1000
    with pytest.raises(UserError, match=r"has no column 'texts'. Did you mean 'text'"):
        texts(f"hf:{saved}/one", "texts")
    with pytest.raises(UserError, match=r"hf:.*nosplit.*could not be read"):
        texts(f"hf:{saved}/files@nosplit")
    with pytest.raises(UserError, match="expected hf:<name or folder>"):
        texts("hf:")


def test_without_network_a_name_is_one_line_with_the_way_out(monkeypatch):
    hub = pytest.importorskip("huggingface_hub")

    def unreachable(*_, **__):
        raise ConnectionError("no network")

    monkeypatch.setattr(hub.HfApi, "dataset_info", unreachable)
    with pytest.raises(UserError, match=r"hf:some/name: the hub could not be reached.*\n.*hf:<folder>"):
        texts("hf:some/name")
