"""A proxy between an SDK and Envoy. It passes on every byte, keeps the requests, and drops responses on request."""

import gzip
import json
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesHeaderParser
from socketserver import BaseRequestHandler, ThreadingTCPServer
from threading import Lock, Thread
from types import TracebackType
from typing import Any, BinaryIO, Self, cast


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
        self._responses_to_drop = 0
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

    def drop_responses(self, count: int) -> None:
        """Drop the next `count` responses to posts: the sender sees only a connection that closes."""
        self._responses_to_drop = count

    def record(self, request: Request) -> None:
        self.requests.append(request)

    def should_drop(self) -> bool:
        """Return whether to drop the response that has arrived."""
        with self._lock:
            if self._responses_to_drop == 0:
                return False
            self._responses_to_drop -= 1
            return True


class _Connection(BaseRequestHandler):
    _pending_method = ""
    """The method of the request without a response yet; HTTP/1.1 clients wait for one response before the next
    request."""

    def handle(self) -> None:
        recorder = cast(Recorder, self.server)
        client: socket.socket = self.request
        with socket.create_connection(recorder.upstream) as upstream, client.makefile("rb") as incoming:
            responses = Thread(target=self._pass_responses, args=(recorder, upstream, client))
            responses.start()
            with suppress(ConnectionError):  # an SDK may disconnect without closing
                for request in _requests(incoming):
                    recorder.record(request)
                    self._pending_method = request.method
                    upstream.sendall(request.raw)
            with suppress(OSError):
                upstream.shutdown(socket.SHUT_WR)
            responses.join()

    def _pass_responses(self, recorder: Recorder, upstream: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while response := upstream.recv(65536):
                if self._pending_method == "POST" and recorder.should_drop():
                    break
                client.sendall(response)
        with suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)


def _requests(incoming: BinaryIO) -> Iterator[Request]:
    while line := incoming.readline():
        head = line
        while line not in (b"\r\n", b""):
            line = incoming.readline()
            head += line
        first, _, fields = head.partition(b"\r\n")
        method, path, _ = first.decode().split(" ")
        headers = BytesHeaderParser().parsebytes(fields)
        assert "transfer-encoding" not in headers, "no SDK sends chunks; to record one that does, read them here"
        body = incoming.read(int(headers.get("content-length", 0)))
        yield Request(method, path, headers, body, head + body)
