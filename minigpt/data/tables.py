"""Tables as documents, row by row: Parquet files, and datasets of Hugging Face's, from their hub or from a folder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from minigpt.data.document import Document
from minigpt.data.text_files import LONGEST_LINE
from minigpt.errors import UserError, did_you_mean, shown

READ = 1 << 22  # bytes of text read at once, about
MOST_ROWS = 1024
HUB = "hf:"


def parquet_documents(path: Path, column: str) -> Iterator[Document]:
    """The texts of one column of a Parquet file, a row a document. Raises UserError for a row without text."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise UserError(f"source: {path} needs pyarrow: pip install 'minigpt[data]'") from None
    row = 0
    with _plainly(str(path)), parquet.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20) as file:
        _check_column(column, file.schema_arrow.names, str(path))
        kind = file.schema_arrow.field(column).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            raise UserError(f"source: {path}: the column '{shown(column)}' holds {kind}, expected text")
        size = sum(file.metadata.row_group(i).total_byte_size for i in range(file.num_row_groups))
        for batch in file.iter_batches(_rows(size, file.metadata.num_rows), columns=[column]):
            for text in batch.column(0).to_pylist():
                row += 1
                yield Document(_text(text, f"{path}: row {row}", column), f"{path}: row {row}")


def hub_documents(source: str, column: str) -> Iterator[Document]:
    """The texts of a dataset of Hugging Face's: ``hf:<name or folder>[:<subset>][@<split>]``, split train by default.

    A folder that ``save_to_disk`` wrote, or one of data files, is read from the disk; a name is fetched into the cache
    of the ``datasets`` library. Raises UserError when it is not there and the hub cannot be reached.
    """
    table = _hub_table(source)
    _check_column(column, table.column_names, source)
    with _plainly(source):
        rows = table.select_columns([column])
        step = _rows(rows.data.nbytes, len(rows))
        for start in range(0, len(rows), step):
            for row, text in enumerate(rows[start : start + step][column], start=start + 1):
                yield Document(_text(text, f"{source}: row {row}", column), f"{source}: row {row}")


def _hub_table(source: str) -> Any:
    name, _, split = source.removeprefix(HUB).partition("@")
    name, _, subset = name.partition(":")
    split = split or "train"
    if not name:
        raise UserError(f"source: {source}: expected hf:<name or folder>[:<subset>][@<split>]")
    try:
        import datasets
    except ImportError:
        raise UserError(f"source: {source} needs datasets: pip install 'minigpt[data]'") from None
    saved = Path(name) / split if (Path(name) / "dataset_dict.json").is_file() else Path(name)
    datasets.disable_progress_bars()
    with _plainly(source):
        if (saved / "state.json").is_file():
            return datasets.load_from_disk(str(saved))
        if Path(name).exists():
            return datasets.load_dataset(name, subset or None, split=split)
        return _fetched(datasets, name, subset or None, split)


def _fetched(datasets: Any, name: str, subset: str | None, split: str) -> Any:
    from minigpt.data.network import ANSWER_SECONDS, within

    if not datasets.config.HF_HUB_OFFLINE:
        from huggingface_hub import HfApi

        try:
            within(ANSWER_SECONDS, lambda: HfApi().dataset_info(name, timeout=ANSWER_SECONDS))
        except Exception as error:
            missing = type(error).__name__ in ("RepositoryNotFoundError", "GatedRepoError", "HFValidationError")
            what = "is not a dataset anybody may read there" if missing else "the hub could not be reached"
            raise UserError(
                f"source: hf:{shown(name)}: {what} ({type(error).__name__}).\n"
                "  Give a folder in its place, hf:<folder>, or the data files themselves."
            ) from None
    return datasets.load_dataset(name, subset, split=split)


def _rows(size: int, rows: int) -> int:
    """How many rows of a table of ``size`` bytes to read at once."""
    return min(max(READ * rows // max(size, 1), 1), MOST_ROWS)


def _check_column(column: str, names: list[str], where: str) -> None:
    if column not in names:
        raise UserError(
            f"source: {where}: has no column '{shown(column)}'.{did_you_mean(column, names)}\n"
            f"  Name the column that holds the text: text_key=<one of {shown(', '.join(names))}>"
        )


def _text(text: Any, where: str, column: str) -> str:
    if not isinstance(text, str):
        what = "nothing" if text is None else f"'{shown(text, 40)}'"
        raise UserError(f"source: {where}: '{shown(column)}' holds {what}, expected text")
    if len(text) > LONGEST_LINE:
        raise UserError(f"source: {where}: a text of more than {LONGEST_LINE >> 20} million characters")
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


@contextlib.contextmanager
def _plainly(where: str) -> Iterator[None]:
    """Context manager: what pyarrow and datasets raise, each in its own way, is a UserError about the source."""
    try:
        yield
    except (UserError, MemoryError, GeneratorExit):
        raise
    except Exception as error:
        raise UserError(f"source: {where}: could not be read: {shown(error, 200)}") from None
