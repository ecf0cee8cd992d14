"""A proxy between an SDK and Envoy. It passes on every byte, keeps the requests, and breaks some of them on request."""

import gzip
import json
import socket
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesHeaderParser
from socketserver import BaseRequestHandler, ThreadingTCPServer
from threading import Lock, Thread
from types import TracebackType
from typing import Any, BinaryIO, Final, Literal, Self, cast

Fault = Literal["429", "503", "dropped"]
"""A status that the proxy returns without passing on the request, or a connection that it closes instead of passing on
the response: the events of that request are stored."""
_REASONS: Final = {"429": "Too Many Requests", "503": "Service Unavailable"}


@dataclass(frozen=True)
class Number:
    """A number of a JSON text, with its original digits."""

    text: str


@dataclass(frozen=True)
class Request:
    """A request as it was on the wire."""

    method: str
    path: str
    headers: Message
    body: bytes
    raw: bytes

    @property
    def json(self) -> Any:
        """Return the decompressed body as JSON, with every digit of its numbers."""
        body = gzip.decompress(self.body) if self.headers.get("content-encoding") == "gzip" else self.body
        return exact_json(body)


def exact_json(text: bytes | str) -> Any:
    """Parse JSON with numbers as `Number`s, so that 1 and 1.0 differ and no digit is lost."""
    return json.loads(text, parse_int=Number, parse_float=Number, parse_constant=Number)


class Recorder(ThreadingTCPServer):
    """Listens on its own port from construction to the end of the `with`."""

    daemon_threads = True

    def __init__(self, upstream_port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.upstream = ("127.0.0.1", upstream_port)
        self.address = f"127.0.0.1:{self.server_address[1]}"
        self.requests: list[Request] = []
        self._faults: deque[Fault] = deque()
        self._lock = Lock()
        self._thread = Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, type_: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    @property
    def posts(self) -> list[Request]:
        """The requests with events, in the order of their arrival."""
        return [request for request in self.requests if request.method == "POST"]

    def break_next(self, *faults: Fault) -> None:
        """Break the next posts, one for each fault."""
        self._faults.extend(faults)

    def record(self, request: Request) -> Fault | None:
        """Keep a request, and return how to break it."""
        with self._lock:
            self.requests.append(request)
            return self._faults.popleft() if request.method == "POST" and self._faults else None


class _Connection(BaseRequestHandler):
    _drops_response = False
    """Whether to drop the response to the request that has none yet: clients of HTTP/1.1 wait for a response before
    they send the next request."""

    def handle(self) -> None:
        recorder = cast(Recorder, self.server)
        client: socket.socket = self.request
        with socket.create_connection(recorder.upstream) as upstream, client.makefile("rb") as incoming:
            responses = Thread(target=self._pass_responses, args=(upstream, client))
            responses.start()
            with suppress(ConnectionError):  # an SDK may disconnect without closing
                for request in _requests(incoming):
                    fault = recorder.record(request)
                    if fault in _REASONS:
                        client.sendall(_refusal(fault))
                    else:
                        self._drops_response = fault == "dropped"
                        upstream.sendall(request.raw)
            with suppress(OSError):
                upstream.shutdown(socket.SHUT_WR)
            responses.join()

    def _pass_responses(self, upstream: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while (response := upstream.recv(65536)) and not self._drops_response:
                client.sendall(response)
        with suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)


def _refusal(status: str) -> bytes:
    """Return the response of a server that does not take a request now, which pages of every origin may read."""
    body = b'{"success": false, "code": "TryAgain", "message": "send it again"}'
    head = (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        "access-control-allow-origin: *\r\naccess-control-expose-headers: retry-after\r\nretry-after: 1\r\n\r\n"
    )
    return head.encode() + body


def _requests(incoming: BinaryIO) -> Iterator[Request]:
    while line := incoming.readline():
        head = line
        while line not in (b"\r\n", b""):
            line = incoming.readline()
            head += line
        first, _, fields = head.partition(b"\r\n")
        method, path, _ = first.decode().split(" ")
        headers = BytesHeaderParser().parsebytes(fields)
        if headers.get("transfer-encoding") == "chunked":
            body, raw = _chunks(incoming)
        else:
            raw = body = incoming.read(int(headers.get("content-length", 0)))
        yield Request(method, path, headers, body, head + raw)


def _chunks(incoming: BinaryIO) -> tuple[bytes, bytes]:
    """Return the content of a chunked body, and its bytes."""
    body = raw = b""
    size = 1
    while size:
        line = incoming.readline()
        size = int(line, 16)
        chunk = incoming.read(size + 2)
        body += chunk[:size]
        raw += line + chunk
    return body, raw
