"""The load generator, a process of its own: `python -m bench.load '{"port": …}'` prints its counts as JSON.

It sends HTTP/1.1 on kept-alive connections, one request at a time on each, and does little work per request, because it
shares the machine with the measured system.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import cast

import uvloop

from bench.payload import Batch, Single


@dataclass
class Plan:
    """The requests to send."""

    port: int
    kind: str
    """"batch", "single", "create" or "get"."""
    seconds: float
    connections: int
    authorization: str
    path: str
    rate: float = 0
    """Requests/s, evenly spread; 0: no limit."""


@dataclass
class Result:
    """The counts of a run. Latencies are in seconds, of requests with a response."""

    seconds: float = 0.0
    requests: int = 0
    failures: int = 0
    cpu_seconds: float = 0.0
    p50: float = 0.0
    p99: float = 0.0


class _Connection(asyncio.Protocol):
    def __init__(
        self,
        next_request: Callable[[], bytes | None],
        result: Result,
        latencies: list[float],
        done: asyncio.Future[None],
        next_slot: Callable[[], float],
    ) -> None:
        self._next_request = next_request
        self._result = result
        self._done = done
        self._latencies = latencies
        self._next_slot = next_slot
        self._received = b""
        self._sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it
        self._send_in_time()

    def _send_in_time(self) -> None:
        if (wait := self._next_slot()) > 0:
            asyncio.get_running_loop().call_later(wait, self._send)
        else:
            self._send()

    def _send(self) -> None:
        request = self._next_request()
        if request is None:
            self._transport.close()
            return
        self._sent_at = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        if not separator:
            return
        at = head.index(b"content-length: ") + 16  # Envoy writes names in lower case
        if len(body) < int(head[at : head.find(b"\r", at)]):
            return
        self._received = b""
        self._result.requests += 1
        self._latencies.append(time.perf_counter() - self._sent_at)
        if not head.startswith(b"HTTP/1.1 200"):
            self._result.failures += 1
        self._send_in_time()

    def connection_lost(self, error: Exception | None) -> None:
        if error is not None:
            self._result.failures += 1
        if not self._done.done():
            self._done.set_result(None)


async def run(plan: Plan) -> Result:
    """Send for `plan.seconds`, then wait for the outstanding responses."""
    result = Result()
    latencies: list[float] = []
    loop = asyncio.get_running_loop()
    batch, single = Batch(), Single()
    start = time.perf_counter()
    deadline = start + plan.seconds
    method = b"GET" if plan.kind == "get" else b"POST"
    head = method + f" {plan.path} HTTP/1.1\r\nhost: bench\r\nauthorization: {plan.authorization}\r\n".encode()
    bodies: Callable[[int], bytes] = {
        "batch": lambda _: batch.refresh(),
        "create": lambda number: b'{"name":"Source %d","role":"Source","connector":"http"}' % number,
    }.get(plan.kind, lambda _: single.refresh())

    def next_request() -> bytes | None:
        if time.perf_counter() >= deadline:
            return None
        if plan.kind == "get":
            return head + b"\r\n"
        body = bodies(result.requests)
        return head + b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body

    slots = 0

    def next_slot() -> float:
        """Return the seconds until the next request is due. Late requests are sent without a pause."""
        nonlocal slots
        slots += 1
        return start + slots / plan.rate - time.perf_counter() if plan.rate else 0

    finished = []
    for _ in range(plan.connections):
        done = loop.create_future()
        finished.append(done)
        protocol = partial(_Connection, next_request, result, latencies, done, next_slot)
        await loop.create_connection(protocol, "127.0.0.1", plan.port)
    await asyncio.wait_for(asyncio.gather(*finished), plan.seconds + 60)
    result.seconds, result.cpu_seconds = time.perf_counter() - start, time.process_time()
    latencies.sort()
    result.p50, result.p99 = latencies[len(latencies) // 2], latencies[len(latencies) * 99 // 100]
    return result


def measure(plan: Plan) -> Result:
    """Run the plan in a process of its own."""
    output = subprocess.run(
        [sys.executable, "-m", "bench.load", json.dumps(asdict(plan))], check=True, capture_output=True, text=True
    ).stdout
    return Result(**json.loads(output))


if __name__ == "__main__":
    outcome = uvloop.run(run(Plan(**json.loads(sys.argv[1]))))
    print(json.dumps(asdict(outcome)))
