"""A TCP proxy between a courier and a destination: it can be cut, and it can keep responses back."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.system import free_port


class Proxy:
    """Forwards connections from its own port to another on 127.0.0.1. While it is closed, its port refuses them."""

    def __init__(self, target: int) -> None:
        self.port = free_port()
        self._target = target
        self._open: list[socket.socket] = []
        self._listening: socket.socket | None = None
        self._passes = threading.Event()
        self._passes.set()
        self.kept_back = threading.Event()
        """Set when a response is kept back."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def open(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", self.port), backlog=64)
        threading.Thread(target=self._accept, args=(self._listening,), daemon=True).start()

    def cut(self) -> None:
        """Refuse connections, and end those that exist."""
        if self._listening is not None:
            self._end(self._listening)
            self._listening = None
        while self._open:
            self._end(self._open.pop())

    def keep_back(self) -> None:
        """Forward requests, and keep their responses back until `release`."""
        self.kept_back.clear()
        self._passes.clear()

    def release(self) -> None:
        self._passes.set()

    def _accept(self, listening: socket.socket) -> None:
        with suppress(OSError):  # it was cut
            while True:
                incoming = listening.accept()[0]
                outgoing = socket.create_connection(("127.0.0.1", self._target))
                self._open += (incoming, outgoing)
                for pair in ((incoming, outgoing), (outgoing, incoming)):
                    threading.Thread(target=self._forward, args=(*pair, incoming), daemon=True).start()

    def _forward(self, source: socket.socket, target: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):  # one of the ends has closed, or it was cut
            while data := source.recv(65_536):
                if target is client and not self._passes.is_set():
                    self.kept_back.set()
                    self._passes.wait()
                target.sendall(data)
        self._end(source)
        self._end(target)

    @staticmethod
    def _end(connection: socket.socket) -> None:
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
        connection.close()


@contextmanager
def proxy(target: int) -> Iterator[Proxy]:
    """Run a proxy, closed at first, until the end of the block."""
    running = Proxy(target)
    try:
        yield running
    finally:
        running.release()
        running.cut()
