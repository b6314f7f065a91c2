"""Calls into the Rust libraries behind tokenizers, which panic where Python would raise."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator

from minigpt.errors import UserError, shown


@contextlib.contextmanager
def calmly(where: str, quiet: bool = False) -> Iterator[None]:
    """Context manager: what a Rust library raises, its panics included, becomes a UserError about ``where``.

    quiet: also keep what a panic prints, a stack trace, from the screen; for the moment of loading, as it takes the
    whole process's stderr.
    """
    try:
        with _no_stderr() if quiet else contextlib.nullcontext():
            yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{where}: not usable: {shown(error)}") from None
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # pyo3 offers no name to catch; it is no Exception
            raise
        raise UserError(f"{where}: not usable: {shown(error)}") from None


@contextlib.contextmanager
def _no_stderr() -> Iterator[None]:
    with tempfile.TemporaryFile() as nowhere:
        kept = os.dup(2)
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
