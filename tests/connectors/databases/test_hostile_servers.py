"""Servers that lead elsewhere, are silent or break their protocol: a user can enter the address of any server."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from headwater.base.errors import Unavailable
from headwater.connectors.catalogue.databases import ClickHouseSettings, MySQLSettings, PostgreSQLSettings
from headwater.connectors.databases import (
    clickhouse,
    clickhouse_session,
    mysql,
    mysql_session,
    postgresql,
    postgresql_session,
)
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


@contextmanager
def tcp_server(serve: Callable[[socket.socket, threading.Event], None]) -> Iterator[int]:
    """Run a server that calls a function with each connection and an event that ends it; yield its port."""
    ended = threading.Event()
    threads: list[threading.Thread] = []

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=run, args=(connection,))
            threads.append(thread)
            thread.start()

    def run(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            serve(connection, ended)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield listener.getsockname()[1]
        finally:
            ended.set()
            listener.shutdown(socket.SHUT_RDWR)
            for thread in (accepting, *threads):
                thread.join()


def greet(connection: socket.socket, ended: threading.Event) -> None:
    """Accept every login to PostgreSQL, and respond to nothing."""
    connection.recv(10_000)
    connection.sendall(b"N")  # no TLS
    connection.recv(10_000)
    connection.sendall(b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I")
    ended.wait()


def drip(connection: socket.socket, ended: threading.Event) -> None:
    """Send a packet of MySQL that never ends, byte after byte."""
    connection.sendall(b"\xff\xff\xff\0")
    while not ended.wait(0.05):
        connection.sendall(b"x")


def break_protocol(connection: socket.socket, ended: threading.Event) -> None:
    """Greet like MySQL, in nonsense."""
    connection.sendall(b"\x03\0\0\0\x0a\xff\xff")
    ended.wait()


def test_a_silent_postgresql_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgresql_session, "CONNECT_SECONDS", 1.0)
    with tcp_server(greet) as port, pytest.raises(Unavailable, match="did not respond within 1 seconds"):
        settings = PostgreSQLSettings(
            host="127.0.0.1", port=port, username="a", password="b", database="c", schema="public"
        )
        postgresql.check(settings, make_context())


@pytest.mark.parametrize("serve", [drip, break_protocol])
def test_a_mysql_that_does_not_log_in_is_left(
    serve: Callable[[socket.socket, threading.Event], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mysql_session, "CONNECT_SECONDS", 1.0)
    with tcp_server(serve) as port, pytest.raises(Unavailable, match="cannot be reached"):
        settings = MySQLSettings(host="127.0.0.1", port=port, username="a", password="b", database="c")
        mysql.check(settings, make_context())


def test_a_silent_clickhouse_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clickhouse_session, "CONNECT_SECONDS", 1.0)

    def be_silent(connection: socket.socket, ended: threading.Event) -> None:
        ended.wait()

    with tcp_server(be_silent) as port, pytest.raises(Unavailable, match="cannot be reached"):
        settings = ClickHouseSettings(host="127.0.0.1", port=port, tls="Off")
        clickhouse.check(settings, make_context())
