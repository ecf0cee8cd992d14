"""A destination that costs little: it counts requests and events, and notes how late each event arrives.

Run in a process of its own, so that it shares nothing with the measured system but the machine.
"""

import asyncio
import multiprocessing
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from multiprocessing.connection import Connection

import msgspec
import uvloop

from tests.system import free_port

_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
_RECEIVED_AT = re.compile(rb'"receivedAt":"([^"]+)"')
_RESPONSE = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-type: application/json\r\n\r\n{}"


class Count(msgspec.Struct, array_like=True):
    """The arrivals since the last question."""

    requests: int
    events: int
    bytes: int
    seconds_late: list[float]
    """Time from the acceptance of each event until its arrival, if events contain it."""


class _Requests(asyncio.Protocol):
    def __init__(self, count: Count) -> None:
        self._count = count
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while True:
            head, separator, rest = self._buffer.partition(b"\r\n\r\n")
            if not separator or (length := _LENGTH.search(head)) is None or len(rest) < int(length[1]):
                return
            body, self._buffer = rest[: int(length[1])], rest[int(length[1]) :]
            now, found = time.time(), _RECEIVED_AT.findall(body)
            self._count.requests += 1
            self._count.bytes += len(body)
            self._count.events += body.count(b'"id":"') if not found else len(found)
            self._count.seconds_late += [now - datetime.fromisoformat(text.decode()).timestamp() for text in found]
            self._transport.write(_RESPONSE)  # type: ignore[attr-defined]


async def _serve(port: int, questions: Connection) -> None:
    count = Count(0, 0, 0, [])
    loop = asyncio.get_running_loop()

    def respond() -> None:
        os.set_blocking(questions.fileno(), True)  # the loop has changed it, and the response may be long
        questions.recv_bytes()
        questions.send_bytes(msgspec.msgpack.encode(count))
        count.requests = count.events = count.bytes = 0
        count.seconds_late.clear()

    loop.add_reader(questions.fileno(), respond)
    server = await loop.create_server(lambda: _Requests(count), "127.0.0.1", port, backlog=256)
    async with server:
        await server.serve_forever()


def _main(port: int, questions: Connection) -> None:
    uvloop.run(_serve(port, questions))


class Receiver:
    """A running destination."""

    def __init__(self, port: int, questions: Connection) -> None:
        self.url = f"http://127.0.0.1:{port}/hook"
        self._questions = questions

    def take(self) -> Count:
        """Return the arrivals since the last call."""
        self._questions.send_bytes(b"?")
        return msgspec.msgpack.decode(self._questions.recv_bytes(), type=Count)


@contextmanager
def receiver(port: int | None = None) -> Iterator[Receiver]:
    """Run a destination until the end of the block."""
    port = port or free_port()
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=_main, args=(port, theirs), daemon=True)
    process.start()
    try:
        yield Receiver(port, ours)
    finally:
        process.kill()
        process.join()
