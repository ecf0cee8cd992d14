"""Servers that lead elsewhere: a user can enter the address of any server."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from headwater.base.errors import Unavailable
from headwater.connectors.catalogue.databases import ClickHouseSettings
from headwater.connectors.databases import clickhouse
from tests.connectors.conformance.context import make_context


@contextmanager
def http_server(status: int, headers: dict[str, str], requests: list[str]) -> Iterator[int]:
    """Run a server that gives one response to everything; yield its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            requests.append(self.path)
            self.send_response(status)
            for name, value in {"content-length": "0", **headers}.items():
                self.send_header(name, value)
            self.end_headers()

        do_GET = do_POST

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_clickhouse_does_not_follow_redirects(status: int) -> None:
    secret: list[str] = []
    with http_server(200, {}, secret) as private:
        location = f"http://127.0.0.1:{private}/secret"
        with http_server(status, {"location": location}, []) as port:
            settings = ClickHouseSettings(host="127.0.0.1", port=port, tls="Off")
            with pytest.raises(Unavailable, match="cannot be reached"):
                clickhouse.check(settings, make_context())
    assert not secret
