"""A TCP proxy that breaks one connection in the middle of what the client sends, as networks do."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

BREAK_AFTER_BYTES: Final = 9_000
"""More than the calls before the events take, and less than the events."""


class BreakingProxy:
    """Forwards connections to a port of this machine. It ends the first one that sends BREAK_AFTER_BYTES, in both
    directions and without forwarding the bytes after them."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._lock = threading.Lock()
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listening.getsockname()[1]
        self.breaks = 0
        """Number of connections that it has ended: 0 or 1."""
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):  # it was closed
            while True:
                incoming = self._listening.accept()[0]
                outgoing = socket.create_connection(("127.0.0.1", self._target))
                threading.Thread(target=self._send, args=(incoming, outgoing), daemon=True).start()
                threading.Thread(target=self._receive, args=(outgoing, incoming), daemon=True).start()

    def _send(self, client: socket.socket, server: socket.socket) -> None:
        sent = 0
        with suppress(OSError):  # one of the ends has closed
            while data := client.recv(1024):
                sent += len(data)
                if sent > BREAK_AFTER_BYTES and self._may_break():
                    break
                server.sendall(data)
        _end(client)
        _end(server)

    def _receive(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(65_536):
                client.sendall(data)
        _end(server)
        _end(client)

    def _may_break(self) -> bool:
        with self._lock:
            is_first = self.breaks == 0
            self.breaks = 1
            return is_first


def _end(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


@contextmanager
def breaking_proxy(target: int) -> Iterator[BreakingProxy]:
    """Run a proxy until the end of the block."""
    proxy = BreakingProxy(target)
    try:
        yield proxy
    finally:
        proxy.close()
