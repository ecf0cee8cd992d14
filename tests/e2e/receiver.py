"""A destination: an HTTP server that records what it gets, and fails on request."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Received:
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


Answer = Callable[[Received], tuple[int, dict[str, str], bytes]]
"""Returns the status, the headers and the body of a response."""


def accept(_: Received) -> tuple[int, dict[str, str], bytes]:
    return 200, {}, b"{}"


@dataclass
class Receiver:
    """A running destination."""

    port: int
    answer: Answer = accept
    requests: list[Received] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    def bodies(self) -> list[Any]:
        """Return the decoded bodies of all requests so far."""
        return [request.json() for request in list(self.requests)]


@contextmanager
def receiver(answer: Answer = accept, *, port: int = 0) -> Iterator[Receiver]:
    """Run a destination until the end of the block; then its port refuses connections."""
    found = Receiver(port, answer)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            received = Received(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
            found.requests.append(received)
            status, headers, text = found.answer(received)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, format: str, *args: object) -> None:
            """Print nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def __init__(self) -> None:
            super().__init__(("127.0.0.1", port), Handler)
            self._open: set[socket.socket] = set()

        def process_request(self, request: Any, client_address: Any) -> None:
            self._open.add(request)
            super().process_request(request, client_address)

        def disconnect(self) -> None:
            for connection in self._open:
                with suppress(OSError):  # it has ended
                    connection.shutdown(socket.SHUT_RDWR)

    server = Server()
    found.port = server.server_address[1]
    serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    serving.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.disconnect()
        server.server_close()
        serving.join()
