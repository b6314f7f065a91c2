"""Threads of workers: as many as the cores in all, and no more than somebody asked for."""

from __future__ import annotations

import pytest

from minigpt.data.worker_pool import cores
from minigpt.search.launcher import threads_each


@pytest.mark.parametrize(
    ("asked", "threads"), [("1", 1), (str(10**6), cores()), ("", cores()), ("0", cores()), ("x", cores())]
)
def test_a_limit_that_somebody_has_set_holds(monkeypatch, asked, threads):
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert threads_each(1) == threads
    assert threads_each(10**6) == 1
