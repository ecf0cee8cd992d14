"""Requests that two servers could read differently: one request goes in, and never two come out."""

import socket

import pytest

from tests.e2e.source import get
from tests.system import RunningSystem

SECRET = b'{"name":"smuggled","role":"Source","connector":"http"}'

HIDDEN = (
    b"POST /v1/connections HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %s\r\n"
    b"content-type: application/json\r\ncontent-length: " + str(len(SECRET)).encode() + b"\r\n\r\n" + SECRET
)
"""A request that an attacker hides in the body of another one."""

ATTEMPTS = {
    "length and chunked": [b"content-length: %d", b"transfer-encoding: chunked"],
    "chunked and length": [b"transfer-encoding: chunked", b"content-length: %d"],
    "two lengths": [b"content-length: 5", b"content-length: %d"],
    "a list of lengths": [b"content-length: 5, %d"],
    "a signed length": [b"content-length: +5"],
    "a negative length": [b"content-length: -1"],
    "a length in hexadecimal": [b"content-length: 0x5"],
    "an unknown coding": [b"transfer-encoding: xchunked", b"content-length: 5"],
    "two codings": [b"transfer-encoding: chunked, identity", b"content-length: 5"],
    "a space before the colon": [b"transfer-encoding : chunked", b"content-length: 5"],
    "a tab in the coding": [b"transfer-encoding:\tchunked\x0b", b"content-length: 5"],
    "a folded header": [b"content-length: 5\r\n transfer-encoding: chunked"],
    "NUL in a header": [b"x-a: b\0c", b"content-length: 5"],
    "a bare line feed": [b"x-a: b\ncontent-length: 5", b"content-length: 5"],
}


@pytest.mark.parametrize("headers", ATTEMPTS.values(), ids=ATTEMPTS.keys())
@pytest.mark.parametrize("path", [b"/v1/connections", b"/v1/track"])
def test_a_hidden_request_is_not_executed(tenant: RunningSystem, path: bytes, headers: list[bytes]) -> None:
    hidden = HIDDEN.replace(b"%s", tenant.api_key.encode())
    body = b"0\r\n\r\n" + hidden
    lines = b"\r\n".join(header.replace(b"%d", str(len(body)).encode()) for header in headers)
    request = b"POST " + path + b" HTTP/1.1\r\nhost: x\r\n" + lines + b"\r\n\r\n" + body
    received = _exchange(tenant.port, request)
    assert received.count(b"HTTP/1.1 ") <= 2, received
    # If the first request ends early, the rest is at most another request of the same caller, which is rejected.
    assert b"HTTP/1.1 200" not in received or path == b"/v1/track", received
    assert "smuggled" not in [connection["name"] for connection in get(tenant, "/v1/connections")["connections"]]


def _exchange(port: int, request: bytes) -> bytes:
    """Return everything that comes back until the server closes or sends nothing more."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        try:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the server closed before everything was sent; the response is available all the same
        received = b""
        try:
            while part := connection.recv(65536):
                received += part
        except OSError:
            pass
        return received
