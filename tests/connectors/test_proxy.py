"""The proxy for libraries that connect by themselves."""

import base64
import gc
import http.client
import http.server
import os
import socket
import threading
from collections.abc import Iterator
from typing import Any, ClassVar
from urllib.parse import urlsplit

import pytest

from headwater.connectors import proxy
from headwater.connectors.addresses import ANY_ADDRESS, AddressPolicy
from headwater.connectors.proxy import GuardedProxy
from headwater.connectors.resolving import DestinationForbidden


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    seen: ClassVar[list[tuple[str, dict[str, str]]]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.seen.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    Handler.seen.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def open_proxy(
    guard: GuardedProxy, *, password: str | None = None
) -> tuple[http.client.HTTPConnection, dict[str, str]]:
    parts = urlsplit(guard.url)
    credentials = base64.b64encode(f"{parts.username}:{password or parts.password}".encode()).decode()
    connection = http.client.HTTPConnection("127.0.0.1", parts.port, timeout=30)
    return connection, {"proxy-authorization": f"Basic {credentials}"}


def post(guard: GuardedProxy, url: str, body: bytes = b"", **named: Any) -> tuple[int, bytes]:
    connection, headers = open_proxy(guard, **named)
    connection.request("POST", url, body, headers)
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, content


def test_a_request_is_forwarded_without_the_password(port: int) -> None:
    body = bytes(range(256)) * 20_000
    with GuardedProxy(ANY_ADDRESS, None) as guard:
        assert post(guard, f"http://localhost:{port}/a%20b?c=d", body) == (200, body)
        assert guard.failure is None
    [(path, headers)] = Handler.seen
    assert (path, headers["connection"]) == ("/a%20b?c=d", "close")
    assert not any("proxy" in name for name in headers)


def test_a_tunnel_carries_both_directions(port: int) -> None:
    body = bytes(range(256)) * 20_000
    with GuardedProxy(ANY_ADDRESS, None) as guard:
        connection, headers = open_proxy(guard)
        connection.set_tunnel("localhost", port, headers)
        for _ in range(3):
            connection.request("POST", "/", body)
            response = connection.getresponse()
            assert (response.status, response.read()) == (200, body)
        connection.close()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "[::ffff:127.0.0.1]"])
def test_forbidden_addresses_are_not_connected_to(port: int, host: str) -> None:
    with GuardedProxy(AddressPolicy(), None) as guard:
        assert post(guard, f"http://{host}:{port}/")[0] == 502
        assert isinstance(guard.failure, DestinationForbidden)
        connection, headers = open_proxy(guard)
        connection.set_tunnel(host, port, headers)
        with pytest.raises(OSError, match="502"):
            connection.request("POST", "/")
        connection.close()
    assert Handler.seen == []


def test_others_on_the_machine_cannot_use_it(port: int) -> None:
    with GuardedProxy(ANY_ADDRESS, None) as guard:
        assert post(guard, f"http://localhost:{port}/", password="guess")[0] == 407
        with socket.create_connection(("127.0.0.1", urlsplit(guard.url).port or 0), 30) as client:
            client.sendall(f"CONNECT localhost:{port} HTTP/1.1\r\n\r\n".encode())
            assert client.recv(1_000).startswith(b"HTTP/1.1 407")
    assert Handler.seen == []


def test_a_server_that_is_down_is_named() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    with GuardedProxy(ANY_ADDRESS, None) as guard:
        assert post(guard, f"http://127.0.0.1:{port}/")[0] == 502
        assert guard.failure is not None and f"port {port} was not connected to" in guard.failure.message


@pytest.mark.parametrize(
    "head",
    [b"", b"GET", b"GET /\r\n\r\n", b"GET https://a/ HTTP/1.1", b"CONNECT a:x HTTP/1.1", b"A B C D", b"\xff \xff \xff"],
)
def test_other_requests_are_refused(monkeypatch: pytest.MonkeyPatch, head: bytes) -> None:
    monkeypatch.setattr(proxy, "HEAD_SECONDS", 0.2)
    with GuardedProxy(ANY_ADDRESS, None) as guard:
        parts = urlsplit(guard.url)
        credentials = base64.b64encode(f"{parts.username}:{parts.password}".encode())
        with socket.create_connection(("127.0.0.1", parts.port or 0), 30) as client:
            client.sendall(head + b"\r\nproxy-authorization: Basic " + credentials + b"\r\n\r\n")
            answer = client.recv(1_000)
        assert answer == b"" or answer[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 407")


def test_what_is_open_ends_with_the_proxy(port: int) -> None:
    with GuardedProxy(ANY_ADDRESS, None) as guard:
        connection, headers = open_proxy(guard)
        connection.set_tunnel("localhost", port, headers)
        connection.connect()
        assert connection.sock is not None
    assert connection.sock.recv(10) == b""
    connection.close()
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", urlsplit(guard.url).port or 0), 5)


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="no list of open files on this system")
def test_connections_whose_data_is_not_taken_are_closed() -> None:
    """A transport with data to send waits for its peer when it is closed, and keeps its socket."""
    before = len(os.listdir("/proc/self/fd"))
    with socket.create_server(("127.0.0.1", 0)) as server:
        with GuardedProxy(ANY_ADDRESS, None) as guard:
            connection, headers = open_proxy(guard)
            connection.set_tunnel("localhost", server.getsockname()[1], headers)
            connection.connect()
            assert connection.sock is not None
            connection.sock.settimeout(1)
            with pytest.raises(TimeoutError):  # the server takes nothing
                connection.sock.sendall(bytes(50_000_000))
        connection.close()
    gc.disable()
    try:
        assert len(os.listdir("/proc/self/fd")) <= before
    finally:
        gc.enable()
