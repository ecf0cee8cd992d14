"""The server on its socket: requests of the gateway, requests that it would never send, and the ends of connections."""

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from headwater.api.ingest import IngestRequest, IngestResponse
from headwater.api.ingest_http import HttpServer, Router
from headwater.api.ingest_http.server import header_text, serialise
from headwater.api.services import native_events, track
from headwater.base.errors import NotFound

MAX_BODY_BYTES = 1000
"""Bytes in the largest body."""
TIMEOUT_SECONDS = 5.0


class Echo:
    """Responds to each call with its own body; some bodies have another effect first."""

    def __init__(self) -> None:
        self.request: IngestRequest | None = None
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()
        self.was_cancelled = asyncio.Event()

    async def track(self, request: IngestRequest) -> IngestResponse:
        self.request = request
        match request.body:
            case b"reject":
                raise NotFound("there is none")
            case b"fail":
                raise RuntimeError("a secret")
            case b"say what cannot be said":
                return IngestResponse(status=999)
            case b"wait":
                self.begun.set()
                try:
                    await self.go_on.wait()
                except asyncio.CancelledError:
                    self.was_cancelled.set()
                    raise
        return IngestResponse(request.body, request.content_type or "none")


async def echo_of_events(request: IngestRequest) -> IngestResponse:
    return IngestResponse(request.variables["type"].encode() + b" " + request.body, "text/plain")


@dataclass
class Running:
    server: HttpServer
    socket: Path
    echo: Echo
    wires: list["Wire"] = field(default_factory=list)

    async def connect(self) -> "Wire":
        wire = Wire(*await asyncio.open_unix_connection(str(self.socket)))
        self.wires.append(wire)
        return wire


class Wire:
    """The gateway's end of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def receive(self) -> tuple[int, dict[str, str], bytes]:
        """Read the status, headers and body of the next response."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode()
            status, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
            headers = dict(line.split(": ", 1) for line in lines)
            body = await self._reader.readexactly(int(headers.get("content-length", "0")))
        return int(status.split()[1]), headers, body

    async def rest(self) -> bytes:
        """Read everything that is sent before the server closes."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            return await self._reader.read()


def post(body: bytes, *headers: bytes, path: bytes = b"/v1/track") -> bytes:
    lines = [b"POST %s HTTP/1.1" % path, b"host: x", b"content-length: %d" % len(body), *headers, b"", b""]
    return b"\r\n".join(lines) + body


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    echo, router = Echo(), Router()
    router.add(track.SERVICE, {"Track": echo.track})
    router.add(native_events.SERVICE, {"PostEvent": echo_of_events})
    server = HttpServer(router, max_body_bytes=MAX_BODY_BYTES)
    found = Running(server, tmp_path / "raw.sock", echo)
    await server.start(found.socket)
    yield found
    for wire in found.wires:
        wire.writer.close()
    await server.stop(0)


async def test_a_call_returns_the_response_of_its_servicer(running: Running) -> None:
    wire = await running.connect()
    wire.send(post(b"{}", b"content-type: text/csv", b"X-Other: 1"))
    assert await wire.receive() == (200, {"content-type": "text/csv", "content-length": "2"}, b"{}")
    assert running.echo.request is not None
    assert running.echo.request.metadata["x-other"] == "1"


async def test_repeated_headers_are_all_passed_on(running: Running) -> None:
    wire = await running.connect()
    wire.send(post(b"{}", b"a: 1", b"A: 2", path=b"/v1/track?verbose=true&x=%26"))
    await wire.receive()
    request = running.echo.request
    assert request is not None
    assert [value for name, value in request.headers if name == "a"] == ["1", "2"]
    assert (request.metadata["a"], request.query) == ("2", "verbose=true&x=%26")


async def test_a_path_may_have_a_variable_and_a_query(running: Running) -> None:
    wire = await running.connect()
    wire.send(post(b"{}", path=b"/v1/events/p%61ge?x=1"))
    assert (await wire.receive())[2] == b"page {}"


async def test_a_request_in_any_pieces_is_the_same(running: Running) -> None:
    wire = await running.connect()
    request = post(b"{}", b"content-type: text/csv", path=b"/v1/track?a=b")
    for first in range(0, len(request), 7):
        wire.send(request[first : first + 7])
        await wire.writer.drain()
        await asyncio.sleep(0)
    assert (await wire.receive())[::2] == (200, b"{}")
    assert running.echo.request is not None
    assert running.echo.request.query == "a=b"


HEADERS = [
    (b"x-a:", ""),
    (b"x-a: \t b", "b"),
    (b"X-A: b", "b"),
    (b'x-a: a,b;c="d"', 'a,b;c="d"'),
    ("x-a: naïve 😀".encode(), "naïve 😀"),
    (b"x-a: na\xefve", "naïve"),
    (b"x-a: 1\r\nx-a: 2", "2"),
    (b"x-a: " + b"c" * 30_000, "c" * 30_000),
]


@pytest.mark.parametrize(("line", "value"), HEADERS, ids=[str(line)[:20] for line, _ in HEADERS])
async def test_headers_are_normalised(running: Running, line: bytes, value: str) -> None:
    wire = await running.connect()
    wire.send(post(b"{}", line))
    assert (await wire.receive())[0] == 200
    assert running.echo.request is not None
    assert running.echo.request.metadata["x-a"] == value


async def test_a_chunked_body_is_read(running: Running) -> None:
    wire = await running.connect()
    head = b"POST /v1/track HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    wire.send(head + b"1;a=b\r\n{\r\n1\r\n}\r\n0\r\nx-trailer: 1\r\n\r\n")
    assert (await wire.receive())[::2] == (200, b"{}")


@pytest.mark.parametrize("size", [0, 1, MAX_BODY_BYTES])
async def test_bodies_up_to_the_limit_are_read(running: Running, size: int) -> None:
    wire = await running.connect()
    wire.send(post(b"x" * size))
    assert (await wire.receive())[::2] == (200, b"x" * size)


async def test_a_larger_body_ends_the_connection(running: Running) -> None:
    wire = await running.connect()
    wire.send(post(b"x" * (MAX_BODY_BYTES + 1)))
    assert await wire.rest() == b""


async def test_a_connection_serves_calls_with_any_responses(running: Running) -> None:
    wire = await running.connect()
    statuses = []
    with capture_logs() as logs:
        for request in [
            post(b"1"),
            post(b"reject"),
            post(b"2"),
            post(b"fail"),
            post(b"3", path=b"/v1/nowhere"),
            b"GET /v1/track HTTP/1.1\r\nhost: x\r\n\r\n",
            b"OPTIONS /v1/track HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}",
            b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n",
            post(b"4"),
        ]:
            wire.send(request)
            status, headers, body = await wire.receive()
            statuses.append(status)
            assert headers["content-type"] in ("application/json", "none")
            assert b"secret" not in body
    assert statuses == [200, 404, 200, 500, 404, 404, 404, 200, 200]
    assert [entry["event"] for entry in logs] == ["a call failed"]


NOT_HTTP = {
    "no HTTP": b"hello\r\n\r\n",
    "8-bit letters in the query": post(b"{}", path=b"/v1/track?a=\xc3\xa9"),
    "two lengths": post(b"{}", b"content-length: 3"),
    "length and chunks": post(b"{}", b"transfer-encoding: chunked"),
    "a space before the colon": post(b"{}", b"x-a : b"),
    "NUL": post(b"{}", b"x-a: b\0c"),
    "a bare line feed": post(b"{}", b"x-a: b\n c"),
    "a folded header": post(b"{}", b"x-a: b\r\n c"),
    "an upgrade": post(b"{}", b"connection: upgrade", b"upgrade: websocket"),
}


@pytest.mark.parametrize("request_", NOT_HTTP.values(), ids=NOT_HTTP.keys())
async def test_a_malformed_request_is_400_and_ends_the_connection(running: Running, request_: bytes) -> None:
    """For a connection that just ends the gateway would return 503, and clients would send the same again and again."""
    wire = await running.connect()
    wire.send(request_ + post(b"smuggled"))
    status, headers, body = await wire.receive()
    assert (status, headers["connection"]) == (400, "close")
    assert b"the request is not valid HTTP" in body
    assert await wire.rest() == b""


async def test_a_second_request_before_the_response_ends_the_connection(running: Running) -> None:
    for second in (post(b"2"), b"garbage\r\n\r\n"):
        wire = await running.connect()
        wire.send(post(b"wait") + second)
        assert await wire.rest() == b""


async def test_a_response_that_cannot_be_written_is_500_and_logged(running: Running) -> None:
    wire = await running.connect()
    with capture_logs() as logs:
        wire.send(post(b"say what cannot be said"))
        status, headers, _ = await wire.receive()
    assert (status, headers["connection"]) == (500, "close")
    assert await wire.rest() == b""
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [("a call has no response", "error")]


async def test_a_request_that_cannot_be_handled_is_500_and_logged(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find(path: str) -> None:
        raise RuntimeError(path)

    monkeypatch.setattr(running.server.router, "find", find)
    wire = await running.connect()
    with capture_logs() as logs:
        wire.send(post(b"{}"))
        assert (await wire.receive())[0] == 500
    assert await wire.rest() == b""
    assert [entry["event"] for entry in logs] == ["a request could not be taken"]


async def test_a_caller_who_leaves_ends_the_call(running: Running) -> None:
    wire = await running.connect()
    wire.send(post(b"wait"))
    await asyncio.wait_for(running.echo.begun.wait(), TIMEOUT_SECONDS)
    wire.writer.close()
    await asyncio.wait_for(running.echo.was_cancelled.wait(), TIMEOUT_SECONDS)
    other = await running.connect()
    other.send(post(b"{}"))
    assert (await other.receive())[0] == 200


async def test_callers_that_leave_immediately_leave_no_resources(running: Running) -> None:
    for _ in range(20):
        wire = await running.connect()
        wire.send(post(b"wait"))
        wire.writer.close()
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while running.server.connections or running.server.responding:
            await asyncio.sleep(0.01)


async def test_an_incomplete_call_is_not_handled(running: Running) -> None:
    request = post(b"{}")
    for length in (0, 1, len(request) // 2, len(request) - 1):
        wire = await running.connect()
        wire.send(request[:length])
        wire.writer.write_eof()
        assert await wire.rest() == b""
    assert running.echo.request is None


async def test_calls_wait_concurrently(running: Running) -> None:
    wires = [await running.connect() for _ in range(50)]
    for wire in wires:
        wire.send(post(b"wait"))
    await asyncio.wait_for(running.echo.begun.wait(), TIMEOUT_SECONDS)
    health = await running.connect()
    health.send(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
    assert (await health.receive())[0] == 200, "a process that waits is not sick"
    running.echo.go_on.set()
    assert [(await wire.receive())[0] for wire in wires] == [200] * 50


async def test_stopping_completes_started_calls_and_accepts_no_others(running: Running) -> None:
    idle, busy = await running.connect(), await running.connect()
    idle.send(post(b"{}"))
    assert (await idle.receive())[0] == 200
    busy.send(post(b"wait"))
    await asyncio.wait_for(running.echo.begun.wait(), TIMEOUT_SECONDS)
    stopping = asyncio.create_task(running.server.stop(TIMEOUT_SECONDS))
    assert await idle.rest() == b""
    with pytest.raises(OSError):
        await running.connect()
    assert not stopping.done()
    running.echo.go_on.set()
    assert (await busy.receive())[0] == 200
    assert await busy.rest() == b""
    await asyncio.wait_for(stopping, TIMEOUT_SECONDS)


async def test_stopping_cancels_calls_that_take_longer(running: Running) -> None:
    wire = await running.connect()
    wire.send(post(b"wait"))
    await asyncio.wait_for(running.echo.begun.wait(), TIMEOUT_SECONDS)
    await running.server.stop(0.01)
    assert running.echo.was_cancelled.is_set()
    assert await wire.rest() == b""


async def test_a_server_takes_over_the_socket_of_one_that_was_killed(tmp_path: Path) -> None:
    path = tmp_path / "raw.sock"
    left = await asyncio.start_unix_server(lambda *_: None, str(path))
    os.rename(path, tmp_path / "kept")  # closing it may remove the file
    os.link(tmp_path / "kept", path)
    left.close()
    server = HttpServer(Router(), max_body_bytes=MAX_BODY_BYTES)
    await server.start(path)
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
    assert (await asyncio.wait_for(reader.readline(), TIMEOUT_SECONDS)).startswith(b"HTTP/1.1 200")
    writer.close()
    await server.stop(0)


@pytest.mark.parametrize(
    ("response", "sent"),
    [
        (IngestResponse(), b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 0\r\n\r\n"),
        (
            IngestResponse(b"{}", status=413),
            b"HTTP/1.1 413 %s\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}",
        ),
        (
            IngestResponse(status=204, headers={"retry-after": "1"}),
            b"HTTP/1.1 204 No Content\r\nretry-after: 1\r\n\r\n",
        ),
        (
            IngestResponse(b"{}", "text/plain", 400, {"connection": "close"}),
            b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}",
        ),
    ],
    ids=lambda value: str(value.status) if isinstance(value, IngestResponse) else "",
)
def test_a_response_has_its_length(response: IngestResponse, sent: bytes) -> None:
    serialised = serialise(response)
    phrase = serialised.split(b"\r\n")[0].split(b" ", 2)[2]  # Python 3.13 has another name for 413
    assert serialised == sent.replace(b"%s", phrase)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"", ""),
        (b"Bearer k", "Bearer k"),
        ("naïve 😀".encode(), "naïve 😀"),
        (b"na\xefve", "naïve"),
        (b"\xff\xfe", "ÿþ"),
    ],
)
def test_a_headers_value_is_utf_8_or_else_latin_1(value: bytes, text: str) -> None:
    assert header_text(value) == text
