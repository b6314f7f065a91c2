import http.server
import socket
import threading
import time

import pytest

from minigpt.data import network
from minigpt.errors import UserError


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(variable, raising=False)


def test_a_call_within_its_time_returns_or_raises_as_if_called_directly():
    assert network.within(5, lambda: "answer") == "answer"
    with pytest.raises(ZeroDivisionError):
        network.within(5, lambda: 1 / 0)


def test_a_call_that_never_returns_ends_in_time():
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        network.within(0.1, threading.Event().wait)
    assert time.monotonic() - started < 1


def test_a_file_is_downloaded_whole_and_compared_with_its_hash():
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"text " * 50_000)

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        assert network.download(f"http://127.0.0.1:{server.server_port}/input.txt", "") == b"text " * 50_000
        with pytest.raises(UserError, match=r"not the expected file.*\n  Use source="):
            network.download(f"http://127.0.0.1:{server.server_port}/input.txt", "Use source=<file>", "0" * 64)
        server.shutdown()


def test_a_server_that_is_silent_or_not_there_is_an_error_with_the_way_out(monkeypatch):
    monkeypatch.setattr(network, "ANSWER_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/input.txt"
        with pytest.raises(UserError, match=r"could not be downloaded.*\n  Use source="):
            network.download(url, "Use source=<file>")
    with pytest.raises(UserError, match=r"refused"):
        network.download(url, "Use source=<file>")
