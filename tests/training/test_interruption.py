"""Signals ask; only a second one insists."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from minigpt.training.interruption import Interruption


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_second_insists(number):
    former = signal.getsignal(number)
    with Interruption() as interruption:
        assert not interruption.requested
        os.kill(os.getpid(), number)
        assert interruption.requested == signal.Signals(number).name
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) is former


def test_in_another_thread_it_leaves_signals_alone():
    former, seen = signal.getsignal(signal.SIGTERM), []

    def work():
        with Interruption() as interruption:
            seen.append((signal.getsignal(signal.SIGTERM), interruption.requested))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(former, "")]
