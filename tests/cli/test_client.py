"""The client reports what a server, or something else at its address, returns."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

import pytest

from headwater.cli.client import Client
from headwater.cli.doctor import machine
from headwater.cli.doctor.findings import Installation
from headwater.cli.errors import ApiError, NoServer
from headwater.server.settings import read
from tests.cli.running import Shell
from tests.server.test_certificate import Issuer
from tests.system import free_port

KEY: Final = "api_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG"


@contextmanager
def serving(response: bytes, tls: Issuer | None = None) -> Iterator[tuple[str, list[str]]]:
    """Yield the address of a server that returns these bytes to each request, and the heads of the requests."""
    heads: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def handle_one_request(self) -> None:
            if self.rfile.readline():
                while (line := self.rfile.readline().decode()).strip():
                    heads.append(line.strip())
                with contextlib.suppress(OSError):
                    self.wfile.write(response)
            self.close_connection = True

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls.cert, tls.key)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", heads
        finally:
            server.shutdown()
            thread.join()


def http(status: str, body: str, *headers: str) -> bytes:
    head = "\r\n".join([f"HTTP/1.1 {status}", f"content-length: {len(body.encode())}", *headers, "", ""])
    return (head + body).encode()


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (
            http("404 Not Found", '{"error": {"code": "NotFound", "message": "connection 7 does not exist"}}'),
            "NotFound: connection 7 does not exist",
        ),
        (
            http("400 Bad Request", '{"error": {"code": "BadRequest", "message": "is empty", "field": "name"}}'),
            "BadRequest: is empty (field name)",
        ),
        (http("502 Bad Gateway", "<html>\n<b>nginx</b>"), "HTTP 502: <html>"),
        (http("500 Oops", ""), "HTTP 500: the response has no error of Headwater"),
        (http("400 Bad Request", '{"error": "x"}'), 'HTTP 400: {"error": "x"}'),
        (http("302 Found", "", "location: http://127.0.0.1:1/"), "HTTP 302: the response has no error of Headwater"),
        (
            http("403 Forbidden", '{"error": {"code": "x", "message": "a\\u001b[31m\\nb"}}'),
            "x: a\N{REPLACEMENT CHARACTER}[31m\N{REPLACEMENT CHARACTER}b",
        ),
    ],
)
def test_errors_are_of_one_line(response: bytes, message: str) -> None:
    with serving(response) as (url, _), pytest.raises(ApiError) as raised:
        Client(url, KEY).call("GET", "/v1/connections")
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (b"", "its response is not HTTP, or was cut short"),
        (b"SSH-2.0-OpenSSH\r\n", "its response is not HTTP, or was cut short"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{", "its response is not HTTP, or was cut short"),
    ],
)
def test_another_program_is_no_server(response: bytes, reason: str) -> None:
    with serving(response) as (url, _), pytest.raises(NoServer) as raised:
        Client(url, KEY).call("GET", "/v1/connections")
    assert str(raised.value) == (f"no response from {url}: {reason}. Start `headwater serve`, or set HEADWATER_URL")


def test_an_absent_server_exits_3(shell: Shell) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    shell.set({"HEADWATER_API_KEY": KEY})
    result = shell.run("connections", "list", "--url", url)
    assert (result.status, result.output) == (3, "")
    assert result.errors == (
        f"headwater: no response from {url}: nothing listens there. Start `headwater serve`, or set HEADWATER_URL\n"
    )


def test_a_silent_server_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(NoServer, match=r"did not respond within 0 s"):
        Client(f"http://127.0.0.1:{silent.getsockname()[1]}", KEY, timeout_seconds=0.1).call("GET", "/")


def test_calls_carry_the_key_the_workspace_and_the_query() -> None:
    with serving(http("200 OK", "{}")) as (url, heads):
        Client(f"{url}/base/", KEY, 7).call("POST", "/v1/x", {"a": ["1", "2"], "b": True, "c": None, "d": "ä&"}, b"{}")
    assert f"Authorization: Bearer {KEY}" in heads
    assert "Headwater-Workspace: 7" in heads
    assert "Content-Type: application/json" in heads


def test_items_keep_their_bytes() -> None:
    body = '{"events": [{"n": 1.00, "big": 123456789012345678901},{"b":2}], "nextPageToken": ""}'
    with serving(http("200 OK", body)) as (url, _):
        items = list(Client(url, KEY).items("/v1/events", "events"))
    assert items == [b'{"n": 1.00, "big": 123456789012345678901}', b'{"b":2}']


def encrypted_server(folder: Path, url: str, issuer: Issuer) -> dict[str, str]:
    """Return the variables of the server of this machine, with a certificate for another name than its address."""
    return {**issuer.variables, "HEADWATER_PORT": url.rpartition(":")[2], "HEADWATER_DATA_DIR": str(folder)}


@pytest.mark.parametrize(
    ("body", "command"),
    [
        ('{"connections": []}', ("connections", "list")),
        ('event: event\ndata: {"messageId": "m"}\n\n', ("events", "tail", "--count", "1")),
    ],
)
def test_the_server_of_this_machine_is_called_with_tls(
    shell: Shell, tmp_path: Path, body: str, command: tuple[str, ...]
) -> None:
    issuer = Issuer(tmp_path)
    issuer.write()
    with serving(http("200 OK", body), issuer) as (url, heads):
        shell.set(encrypted_server(tmp_path, url, issuer) | {"HEADWATER_API_KEY": KEY})
        shell.succeed(*command)
    assert f"Authorization: Bearer {KEY}" in heads


def test_the_port_of_an_encrypted_server_is_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    issuer = Issuer(tmp_path)
    issuer.write()
    monkeypatch.setattr(Installation, "supervisor", 1)
    with serving(http("200 OK", "{}"), issuer) as (url, _):
        environ = encrypted_server(tmp_path, url, issuer)
        [finding] = machine.check_ports(Installation(environ, read(environ), None))
    assert finding.result == "ok"


def test_the_key_of_this_machine_is_not_sent_to_another(shell: Shell) -> None:
    result = shell.run("connections", "list", "--url", "http://headwater.invalid")
    assert result.status == 1
    assert result.errors.startswith("headwater: set HEADWATER_API_KEY to a key of http://headwater.invalid: ")


def test_an_absent_key_is_explained(shell: Shell) -> None:
    result = shell.run("connections", "list")
    assert result.status == 1
    assert result.errors.startswith("headwater: there is no API key: set HEADWATER_API_KEY")
