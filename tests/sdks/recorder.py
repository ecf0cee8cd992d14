"""Stands between an SDK and Envoy: passes every byte on, keeps the requests, and loses answers when it is told to."""

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
    """A number of a JSON text, as it is written there."""

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
        """The body, after inflation, with every digit of its numbers."""
        body = gzip.decompress(self.body) if self.headers.get("content-encoding") == "gzip" else self.body
        return exact_json(body)


def exact_json(text: bytes | str) -> Any:
    """What the text says; numbers are `Number`s, so that 1 and 1.0 differ and no digit is lost."""
    return json.loads(text, parse_int=Number, parse_float=Number, parse_constant=Number)


class Recorder(ThreadingTCPServer):
    """Listens on a port of its own from construction to the end of the `with`."""

    daemon_threads = True

    def __init__(self, upstream_port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.upstream = ("127.0.0.1", upstream_port)
        self.address = f"127.0.0.1:{self.server_address[1]}"
        self.requests: list[Request] = []
        self._answers_to_lose = 0
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

    def lose_answers(self, count: int) -> None:
        """Of the next `count` posts that the server answers the sender sees only a connection that closes."""
        self._answers_to_lose = count

    def record(self, request: Request) -> None:
        self.requests.append(request)

    def is_lost(self) -> bool:
        """Whether the answer that has come now is one to lose."""
        with self._lock:
            if self._answers_to_lose == 0:
                return False
            self._answers_to_lose -= 1
            return True


class _Connection(BaseRequestHandler):
    _answered = ""
    """The method of the request that is answered next; HTTP/1.1 clients wait for one answer before they ask again."""

    def handle(self) -> None:
        recorder = cast(Recorder, self.server)
        client: socket.socket = self.request
        with socket.create_connection(recorder.upstream) as upstream, client.makefile("rb") as incoming:
            answers = Thread(target=self._pass_answers, args=(recorder, upstream, client))
            answers.start()
            with suppress(ConnectionError):  # an SDK need not say goodbye
                for request in _requests(incoming):
                    recorder.record(request)
                    self._answered = request.method
                    upstream.sendall(request.raw)
            with suppress(OSError):
                upstream.shutdown(socket.SHUT_WR)
            answers.join()

    def _pass_answers(self, recorder: Recorder, upstream: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while answer := upstream.recv(65536):
                if self._answered == "POST" and recorder.is_lost():
                    break
                client.sendall(answer)
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
